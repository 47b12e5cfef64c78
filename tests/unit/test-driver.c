/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "drivers/driver.h"
#include "drivers/host.h"
#include "util/clock.h"

/* ---- words and tables ------------------------------------------------------------------------------------- */

static void test_words(void **state)
{
	for (int i = 0; i < KIND_MAX; i++)
		assert_int_equal(kind_from_string(kind_to_string(i)), i);
	assert_int_equal(kind_from_string("Domain"), -EINVAL);
	assert_int_equal(kind_from_string(""), -EINVAL);
	assert_int_equal(kind_from_string(NULL), -EINVAL);
	assert_string_equal(kind_to_string(KIND_MAX), "unknown");

	for (int i = 0; i < DOMAIN_STATE_MAX; i++)
		assert_int_equal(domain_state_from_string(domain_state_to_string(i)), i);
	assert_int_equal(domain_state_from_string("asleep"), -EINVAL);
	/* the order is virDomainState's, which drivers rely on */
	assert_string_equal(domain_state_to_string(5), "shutoff");
	assert_string_equal(domain_state_to_string(7), "pmsuspended");

	assert_string_equal(cause_to_string(CAUSE_NONE), "");
	assert_string_equal(cause_to_string(CAUSE_OTHER), "");
	assert_string_equal(cause_to_string(CAUSE_PMSUSPENDED), "PMSuspended");
	for (int i = CAUSE_NONE + 1; i < CAUSE_OTHER; i++)
		for (int j = CAUSE_NONE; j < i; j++)
			assert_string_not_equal(cause_to_string(i), cause_to_string(j));
}

static void test_operation_table(void **state)
{
	for (int i = OP_NONE + 1; i < OP_MAX; i++) {
		const struct operation_def *d = &operation_table[i];
		const char *interface = d->kind == KIND_CONNECTION ? "Connection" :
					d->kind == KIND_DOMAIN	   ? "Domain" :
					d->kind == KIND_POOL	   ? "StoragePool" :
					d->kind == KIND_NETWORK	   ? "Network" :
								     NULL;

		assert_non_null(d->method); /* a gap in the table */
		assert_non_null(d->name);
		assert_non_null(interface);
		assert_string_equal(d->interface, interface);
		for (int j = OP_NONE + 1; j < i; j++) {
			if (operation_table[j].kind != d->kind)
				continue;
			assert_string_not_equal(operation_table[j].method, d->method);
			assert_string_not_equal(operation_table[j].name, d->name);
		}
		/* nothing that only reads can be in anybody's way */
		assert_false(d->read && (d->request || d->overrides));
	}
	assert_true(operation_table[OP_DOMAIN_DESTROY].overrides);
	assert_true(operation_table[OP_DOMAIN_SHUTDOWN].request);
	assert_true(operation_table[OP_DOMAIN_GET_XML].read);
}

/* ---- looks and reports ------------------------------------------------------------------------------------ */

static void test_seen_copy(void **state)
{
	_cleanup_(seen_freep) struct seen *a = seen_new(), *b = NULL;

	assert_int_equal(a->id, -1);
	a->name = strdup("web");
	a->xml = strdup("<domain/>");
	a->title = strdup("");
	a->active = true;
	a->memory = 77;
	a->id = 12;
	b = seen_copy(a);
	assert_non_null(b);
	assert_ptr_not_equal(a->name, b->name);
	assert_string_equal(b->name, "web");
	assert_string_equal(b->xml, "<domain/>");
	assert_string_equal(b->title, "");
	assert_null(b->xml_inactive);
	assert_null(b->state);
	assert_true(b->active);
	assert_int_equal(b->memory, 77);
	assert_int_equal(b->id, 12);
}

static char **make_strings(void)
{
	char **s = calloc(3, sizeof(*s));

	s[0] = strdup("Domain.Started");
	s[1] = strdup("Domain.Stopped");
	return s;
}

/* What this shows is that the leak checker stays silent: every member has an owner. */
static void test_report_free(void **state)
{
	struct report *r;

	report_free(NULL);
	for (int t = REPORT_HELLO; t <= REPORT_RESULT; t++)
		report_free(report_new(t));

	r = report_new(REPORT_HELLO);
	r->hello.hostname = strdup("h");
	r->hello.version = strdup("1");
	r->hello.same_key = strdup("k");
	r->hello.events = make_strings();
	r->hello.operations = make_strings();
	report_free(r);

	r = report_new(REPORT_GOODBYE);
	r->goodbye.error = strdup("e");
	report_free(r);

	r = report_new(REPORT_OBSERVATION);
	r->observation.name = strdup("n");
	r->observation.reason = strdup("booted");
	r->observation.event = strdup("Rebooted");
	r->observation.details = vdict_new();
	r->observation.seen = seen_new();
	r->observation.seen->name = strdup("n");
	r->observation.error = strdup("e");
	report_free(r);

	r = report_new(REPORT_LISTED);
	r->listed.error = strdup("e");
	report_free(r);

	r = report_new(REPORT_RESULT);
	failure_set(&r->result.failure, VIREO_BUSY, "no");
	r->result.text = strdup("t");
	r->result.volumes = calloc(2, sizeof(struct volume));
	r->result.n_volumes = 2;
	r->result.volumes[0].name = strdup("v");
	r->result.volumes[1].path = strdup("/v");
	report_free(r);
}

static void test_request_free(void **state)
{
	struct request *r = calloc(1, sizeof(*r));
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd > 2);
	r->name = strdup("n");
	r->text = strdup("t");
	r->text2 = strdup("u");
	r->options = vdict_new();
	r->fd = fd;
	request_free(r);
	assert_int_equal(fcntl(fd, F_GETFD), -1);

	/* an empty one must not close standard input */
	request_free(calloc(1, sizeof(*r)));
	assert_int_not_equal(fcntl(0, F_GETFD), -1);
	request_free(NULL);
}

/* ---- the host --------------------------------------------------------------------------------------------- */

struct fixture {
	sd_event *event;
	struct clock *clock;
	struct queue *queue;
	struct driver_host *host;
	unsigned mine, nobodys, dropped;
	uint64_t last;
	bool disordered;
};

static struct fixture *dropping; /* drop() has no userdata */

static void on_item(struct queue_item *item, void *userdata)
{
	struct fixture *f = userdata;
	struct report *r = (struct report *)item;

	if (driver_host_owner(r->host) == f) {
		f->mine++;
		if (r->listed.serial <= f->last)
			f->disordered = true;
		f->last = r->listed.serial;
	} else
		f->nobodys++;
	report_free(r);
}

static void on_drained(void *userdata)
{
}

static void on_drop(struct queue_item *item)
{
	dropping->dropped++;
	report_free((struct report *)item);
}

static const struct queue_ops ops = {.item = on_item, .drained = on_drained, .drop = on_drop};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(sd_event_new(&f->event), 0);
	assert_int_equal(clock_new_virtual(1, &f->clock), 0);
	assert_int_equal(queue_new(f->event, &ops, f, 8, 4, &f->queue), 0);
	assert_int_equal(driver_host_new(f->queue, f->event, f->clock, "/somewhere", f, &f->host), 0);
	dropping = f;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_host_unref(f->host);
	queue_close(f->queue);
	queue_unref(f->queue);
	clock_free(f->clock);
	sd_event_unref(f->event);
	free(f);
	return 0;
}

static struct report *listed(uint64_t serial)
{
	struct report *r = report_new(REPORT_LISTED);

	r->listed.serial = serial;
	return r;
}

static void test_host(void **state)
{
	struct fixture *f = *state;

	assert_ptr_equal(driver_host_event(f->host), f->event);
	assert_ptr_equal(driver_host_clock(f->host), f->clock);
	assert_string_equal(driver_host_state_directory(f->host), "/somewhere");
	assert_ptr_equal(driver_host_owner(f->host), f);

	driver_host_post(f->host, listed(1));
	driver_host_post(f->host, listed(2));
	driver_host_post(f->host, NULL);
	queue_drain(f->queue);
	assert_int_equal(f->mine, 2);
	assert_false(f->disordered);

	/* what waits at the close belongs to nobody; what comes later does not even enter */
	driver_host_post(f->host, listed(3));
	driver_host_close(f->host);
	assert_null(driver_host_owner(f->host));
	driver_host_post(f->host, listed(4));
	assert_int_equal(queue_length(f->queue), 1);
	queue_drain(f->queue);
	assert_int_equal(f->mine, 2);
	assert_int_equal(f->nobodys, 1);
	queue_close(f->queue);
}

#define POSTS 2000

static void *poster(void *data)
{
	struct driver_host *h = data;

	for (uint64_t i = 1; i <= POSTS; i++)
		driver_host_post(h, listed(i));
	driver_host_unref(h);
	return NULL;
}

/* A thread posts far more than the queue holds: it waits, and nothing is lost or turned round. */
static void test_host_thread(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, poster, driver_host_ref(f->host)), 0);
	while (f->mine < POSTS)
		assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
	pthread_join(thread, NULL);
	assert_int_equal(f->mine, POSTS);
	assert_false(f->disordered);
	queue_close(f->queue);
}

/* The thread is in the middle of it when the connection closes: it comes free, and nothing reaches the owner. */
static void test_host_close_under_load(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, poster, driver_host_ref(f->host)), 0);
	while (f->mine < POSTS / 10)
		assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);

	unsigned mine = f->mine;

	driver_host_close(f->host);
	queue_close(f->queue);
	pthread_join(thread, NULL);
	queue_drain(f->queue);
	assert_int_equal(f->mine, mine);
}

/* ---- a queue whose items hold it --------------------------------------------------------------------------- */

struct holder {
	struct queue_item item; /* first */
	struct queue *queue;
};

static unsigned holders_dropped;

static void holder_free(struct queue_item *item)
{
	struct queue *q = ((struct holder *)item)->queue;

	free(item);
	queue_unref(q);
}

/* It closes the queue, and takes so long that its turn is over. */
static void holder_closes(struct queue_item *item, void *userdata)
{
	struct timespec long_enough = {.tv_nsec = 20 * 1000 * 1000};

	queue_close(((struct holder *)item)->queue);
	nanosleep(&long_enough, NULL);
	holder_free(item);
}

static void holder_dropped(struct queue_item *item)
{
	holders_dropped++;
	holder_free(item);
}

static void test_queue_closed_by_item(void **state)
{
	static const struct queue_ops holder_ops = {.item = holder_closes, .drop = holder_dropped};
	struct fixture *f = *state;
	struct queue *q;

	assert_int_equal(queue_new(f->event, &holder_ops, NULL, 8, 8, &q), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct holder *h = calloc(1, sizeof(*h));

		h->queue = queue_ref(q);
		queue_push(q, &h->item);
	}
	assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
	/* else they would keep the queue, and it them */
	assert_int_equal(holders_dropped, 2);
	queue_unref(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_operation_table),
		cmocka_unit_test(test_seen_copy),
		cmocka_unit_test(test_report_free),
		cmocka_unit_test(test_request_free),
		cmocka_unit_test_setup_teardown(test_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_close_under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue_closed_by_item, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
