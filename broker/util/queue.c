/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "queue.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

/* Real time, also where a test owns the clock: it bounds how long the loop is away, and changes nothing of the order. */
#define TURN_NSEC INT64_C(4000000)

struct queue {
	unsigned refs;
	struct queue_ops ops;
	void *userdata;
	size_t limit, batch;
	pthread_t loop; /* the thread that made it: it never waits */

	pthread_mutex_t lock;
	pthread_cond_t room;
	struct queue_item *head, **tail;
	size_t length;
	bool signalled, closed;

	int fd;
	sd_event_source *source;
};

static void drop_all(struct queue *q, struct queue_item *item)
{
	for (struct queue_item *next; item; item = next) {
		next = item->next;
		q->ops.drop(item);
	}
}

struct queue *queue_ref(struct queue *q)
{
	__atomic_add_fetch(&q->refs, 1, __ATOMIC_RELAXED);
	return q;
}

void queue_unref(struct queue *q)
{
	if (!q || __atomic_sub_fetch(&q->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	drop_all(q, q->head);
	if (q->fd >= 0)
		close(q->fd);
	pthread_cond_destroy(&q->room);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* Locked. */
static void wake_loop(struct queue *q)
{
	if (q->signalled)
		return;
	q->signalled = true;
	if (eventfd_write(q->fd, 1) < 0)
		log_error("cannot wake the main loop: %m");
}

void queue_push(struct queue *q, struct queue_item *item)
{
	item->next = NULL;
	pthread_mutex_lock(&q->lock);
	while (q->length >= q->limit && !q->closed && !pthread_equal(pthread_self(), q->loop))
		pthread_cond_wait(&q->room, &q->lock);
	if (q->closed) {
		pthread_mutex_unlock(&q->lock);
		q->ops.drop(item);
		return;
	}
	*q->tail = item;
	q->tail = &item->next;
	q->length++;
	wake_loop(q);
	pthread_mutex_unlock(&q->lock);
}

/* Take at most n items off. Return: the first; NULL when none waits. */
static struct queue_item *take(struct queue *q, size_t n)
{
	struct queue_item *first, **last;
	size_t taken = 0;

	pthread_mutex_lock(&q->lock);
	first = q->head;
	for (last = &q->head; *last && taken < n; last = &(*last)->next)
		taken++;
	q->head = *last;
	*last = NULL;
	if (!q->head)
		q->tail = &q->head;
	q->length -= taken;
	q->signalled = false;
	if (q->head)
		wake_loop(q);
	if (q->length < q->limit)
		pthread_cond_broadcast(&q->room);
	pthread_mutex_unlock(&q->lock);
	return taken > 0 ? first : NULL;
}

/* What was taken, and not delivered: first again. */
static void give_back(struct queue *q, struct queue_item *first)
{
	struct queue_item *last = first;
	size_t n = 1;

	for (; last->next; last = last->next)
		n++;
	pthread_mutex_lock(&q->lock);
	if (q->closed) {
		pthread_mutex_unlock(&q->lock);
		drop_all(q, first);
		return;
	}
	if (!q->head)
		q->tail = &last->next;
	last->next = q->head;
	q->head = first;
	q->length += n;
	wake_loop(q);
	pthread_mutex_unlock(&q->lock);
}

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static bool deliver(struct queue *q)
{
	struct queue_item *item = take(q, q->batch), *next;
	int64_t until = now() + TURN_NSEC;

	if (!item)
		return false;
	do {
		next = item->next;
		item->next = NULL;
		q->ops.item(item, q->userdata);
		item = next;
	} while (item && now() < until);
	if (item)
		give_back(q, item);
	if (q->ops.drained)
		q->ops.drained(q->userdata);
	return true;
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct queue *q = userdata;
	eventfd_t value;

	if (eventfd_read(fd, &value) < 0 && errno != EAGAIN)
		return -errno;
	queue_ref(q);
	deliver(q);
	queue_unref(q);
	return 0;
}

void queue_drain(struct queue *q)
{
	while (deliver(q))
		;
}

void queue_close(struct queue *q)
{
	struct queue_item *item;

	pthread_mutex_lock(&q->lock);
	q->closed = true;
	item = q->head;
	q->head = NULL;
	q->tail = &q->head;
	q->length = 0;
	pthread_cond_broadcast(&q->room);
	pthread_mutex_unlock(&q->lock);
	drop_all(q, item);
	q->source = sd_event_source_disable_unref(q->source);
}

size_t queue_length(struct queue *q)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->length;
	pthread_mutex_unlock(&q->lock);
	return n;
}

int queue_new(sd_event *event, const struct queue_ops *ops, void *userdata, size_t limit, size_t batch,
	      struct queue **ret)
{
	_cleanup_(queue_unrefp) struct queue *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	*q = (struct queue){.refs = 1, .ops = *ops, .userdata = userdata, .limit = limit, .batch = batch,
			    .loop = pthread_self(), .tail = &q->head};
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->room, NULL);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0)
		return -errno;
	r = sd_event_add_io(event, &q->source, q->fd, EPOLLIN, on_wake, q);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(q->source, "reports");
	*ret = TAKE(q);
	return 0;
}
