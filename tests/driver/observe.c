/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "drivers/driver.h"
#include "drivers/host.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/workers.h"

/*
 * observe URI < COMMANDS - print every report of the driver that takes this URI, one a line, until a line "quit", the end of
 * the input, or a signal. For seeing what a driver makes of its hypervisor, without the broker.
 *
 * Lines on standard input (the object is a UUID, or - for the connection; @FILE: the contents of a file):
 *   list
 *   look UUID			(a domain)
 *   do Domain.Save UUID [TEXT [TEXT2]] [option=value]... [number=N] [flag=true] [fd=FILE]
 *   cancel TOKEN
 *   complete TOKEN
 *   wait MILLISECONDS		(before the next line is read)
 *   quit
 */

static const struct driver *driver;
static struct driver_connection *connection;
static uint64_t serial;
static bool greeted;
static uint64_t began;
static struct clock *the_clock;

static void on_lines(sd_event *event);

static void print_details(const struct vdict *d)
{
	for (size_t i = 0; d && i < d->n; i++) {
		const struct vdict_item *v = &d->items[i];

		printf(" %s=", v->key);
		switch (v->type) {
		case 's':
			printf("\"%s\"", v->s);
			break;
		case 'b':
			printf("%s", v->b ? "true" : "false");
			break;
		case 'i':
			printf("%d", v->i);
			break;
		case 'u':
			printf("%u", v->u);
			break;
		case 'x':
			printf("%lld", (long long)v->x);
			break;
		case 't':
			printf("%llu", (unsigned long long)v->t);
			break;
		case 'd':
			printf("%g", v->d);
			break;
		}
	}
}

static void print_seen(const struct observation *o)
{
	const struct seen *s = o->seen;

	printf(" '%s'", s->name);
	if (o->kind == KIND_DOMAIN)
		printf(" id=%d %s (%s)%s mem=%llu/%llu vcpus=%u os=%s%s", s->id, domain_state_to_string(s->state), s->state_reason,
		       s->starting ? " STARTING" : "", (unsigned long long)s->memory, (unsigned long long)s->max_memory,
		       s->vcpus, s->os_type ? s->os_type : "?", s->managed_save ? " managed-save" : "");
	else
		printf(" %s %s", s->state_name ? s->state_name : s->active ? "active" : "inactive", s->type ? s->type : "");
	printf("%s%s%s xml=%zu%s%zu unknown=%x", s->active ? " active" : "", s->persistent ? " persistent" : "",
	       s->autostart ? " autostart" : "", s->xml ? strlen(s->xml) : 0, s->xml_inactive ? "+" : "/",
	       s->xml_inactive ? strlen(s->xml_inactive) : 0, s->unknown);
}

static void print_observation(const struct observation *o)
{
	static const char *const looks[] = {"not looked", "SEEN", "GONE", "FAILED"};
	char id[SD_ID128_UUID_STRING_MAX];

	printf("%s %.8s %s", kind_to_string(o->kind), sd_id128_to_uuid_string(o->uuid, id), o->name ? o->name : "-");
	if (o->cause == CAUSE_OTHER)
		printf(" EVENT %s", o->event);
	else if (o->cause != CAUSE_NONE)
		printf(" %s", cause_to_string(o->cause));
	if (o->reason)
		printf("(%s)", o->reason);
	if (o->run > 0)
		printf(" run=%d", o->run);
	print_details(o->details);
	printf(" | %s%s", o->settled ? "settled " : "", looks[o->look]);
	if (o->look == LOOK_SEEN)
		print_seen(o);
	if (o->error)
		printf(": %s", o->error);
	if (o->listing)
		printf(" [%llu]", (unsigned long long)o->listing);
	printf("\n");
}

static void on_item(struct queue_item *item, void *userdata)
{
	struct report *r = (struct report *)item;
	sd_event *event = userdata;

	if (!driver_host_owner(r->host)) {
		report_free(r);
		return;
	}
	printf("%8.1f ", (double)(clock_monotonic(the_clock) - began) / 1000);
	switch (r->type) {
	case REPORT_HELLO:
		printf("HELLO host=%s version=%s key=%s%s\n", r->hello.hostname, r->hello.version,
		       r->hello.same_key ? r->hello.same_key : "-", r->hello.polled ? " polled" : "");
		for (char **e = r->hello.events; e && *e; e++)
			printf("         %s %s\n", e == r->hello.events ? "events    " : "          ", *e);
		for (char **e = r->hello.operations; e && *e; e++)
			printf("         %s %s\n", e == r->hello.operations ? "operations" : "          ", *e);
		greeted = true;
		driver->list(connection, ++serial);
		on_lines(event);
		break;
	case REPORT_GOODBYE:
		printf("GOODBYE %s\n", r->goodbye.error);
		sd_event_exit(event, greeted ? 0 : 1);
		break;
	case REPORT_OBSERVATION:
		print_observation(&r->observation);
		break;
	case REPORT_LISTED:
		printf("LISTED [%llu] domains=%d pools=%d networks=%d %s\n", (unsigned long long)r->listed.serial,
		       r->listed.complete[KIND_DOMAIN], r->listed.complete[KIND_POOL], r->listed.complete[KIND_NETWORK],
		       r->listed.error ? r->listed.error : "");
		break;
	case REPORT_PROGRESS:
		printf("PROGRESS %llu %llu/%llu%s%s\n", (unsigned long long)r->progress.token,
		       (unsigned long long)r->progress.done, (unsigned long long)r->progress.total,
		       r->progress.cancellable ? " cancellable" : "", r->progress.ready ? " ready" : "");
		break;
	case REPORT_RESULT:
		printf("RESULT %llu %s %s %s\n", (unsigned long long)r->result.token,
		       r->result.failure.error == VIREO_CANCELLED ? "cancelled:" :
		       r->result.failure.error ? vireo_error_name(r->result.failure.error) :
						 "ok",
		       r->result.failure.message ? r->result.failure.message : "", r->result.text ? r->result.text : "");
		for (size_t i = 0; i < r->result.n_volumes; i++)
			printf("         volume %s %s %s %llu/%llu %s\n", r->result.volumes[i].name, r->result.volumes[i].type,
			       r->result.volumes[i].format, (unsigned long long)r->result.volumes[i].allocation,
			       (unsigned long long)r->result.volumes[i].capacity, r->result.volumes[i].path);
		break;
	case REPORT_FOREIGN:
		printf("FOREIGN %llx %s %s %s\n", (unsigned long long)r->foreign.token,
		       r->foreign.ended ? "ended" : operation_table[r->foreign.operation].name,
		       r->foreign.subject ? r->foreign.subject : "", r->foreign.failure.message ? r->foreign.failure.message : "");
		break;
	}
	report_free(r);
}

static void on_drained(void *userdata)
{
	fflush(stdout);
}

static void on_drop(struct queue_item *item)
{
	report_free((struct report *)item);
}

static void on_pause(struct timer *t, void *userdata);

static char *argument(const char *word)
{
	FILE *f = word[0] == '@' ? fopen(word + 1, "r") : NULL;
	char *text = NULL;
	size_t size = 0;

	if (word[0] != '@')
		return strdup(word);
	if (!f || getdelim(&text, &size, '\0', f) < 0)
		fprintf(stderr, "%s: %m\n", word + 1);
	if (f)
		fclose(f);
	return text;
}

static void set_option(struct request *q, const char *key, const char *value)
{
	char *end;
	unsigned long long n = strtoull(value, &end, 10);
	bool number = value[0] && !*end, yes = strcmp(value, "true") == 0;

	if (strcmp(key, "number") == 0)
		q->number = n;
	else if (strcmp(key, "flag") == 0)
		q->flag = yes;
	else if (strcmp(key, "fd") == 0)
		q->fd = open(value, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	else if (number)
		vdict_set_t(q->options, key, n);
	else if (yes || strcmp(value, "false") == 0)
		vdict_set_b(q->options, key, yes);
	else
		vdict_set_s(q->options, key, value);
}

static void operate(char *words)
{
	static uint64_t token;
	struct request *q = calloc(1, sizeof(*q));
	char *save, *name = strtok_r(words, " ", &save), *id = strtok_r(NULL, " ", &save);

	if (!q || !name || !id || !strchr(name, '.')) {
		fprintf(stderr, "do what?\n");
		free(q);
		return;
	}
	q->fd = -1;
	q->token = ++token;
	q->options = vdict_new();
	for (enum operation o = OP_NONE + 1; o < OP_MAX; o++) {
		size_t n = strlen(operation_table[o].interface);

		if (strncmp(operation_table[o].interface, name, n) == 0 && name[n] == '.' &&
		    strcmp(operation_table[o].method, name + n + 1) == 0)
			q->operation = o;
	}
	q->kind = operation_table[q->operation].kind;
	if (strcmp(id, "-") != 0 && sd_id128_from_string(id, &q->uuid) < 0)
		fprintf(stderr, "not a UUID: %s\n", id);
	for (char *word = strtok_r(NULL, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *equals = strchr(word, '=');

		if (equals && strcspn(word, "/:@<") > (size_t)(equals - word)) {
			*equals = '\0';
			set_option(q, word, equals + 1);
		} else if (!q->text)
			q->text = argument(word);
		else
			q->text2 = argument(word);
	}
	printf("%8.1f operation %llu: %s\n", (double)(clock_monotonic(the_clock) - began) / 1000, (unsigned long long)token,
	       name);
	driver->operate(connection, q);
}

/* Lines that wait, because the driver is not open yet or a wait was asked for. */
static char lines[65536];
static struct timer pause_timer;

static void on_lines(sd_event *event)
{
	char *end;

	while (greeted && !pause_timer.set && (end = strchr(lines, '\n'))) {
		char line[4096];
		sd_id128_t uuid;

		snprintf(line, sizeof(line), "%.*s", (int)(end - lines), lines);
		memmove(lines, end + 1, strlen(end + 1) + 1);
		if (strcmp(line, "quit") == 0)
			sd_event_exit(event, 0);
		else if (strcmp(line, "list") == 0)
			driver->list(connection, ++serial);
		else if (strncmp(line, "look ", 5) == 0 && sd_id128_from_string(line + 5, &uuid) == 0)
			driver->look(connection, KIND_DOMAIN, uuid, ++serial);
		else if (strncmp(line, "do ", 3) == 0)
			operate(line + 3);
		else if (strncmp(line, "cancel ", 7) == 0)
			driver->cancel(connection, strtoull(line + 7, NULL, 10));
		else if (strncmp(line, "complete ", 9) == 0)
			driver->complete(connection, strtoull(line + 9, NULL, 10));
		else if (strncmp(line, "wait ", 5) == 0)
			timer_in(the_clock, &pause_timer, strtoull(line + 5, NULL, 10) * USEC_PER_MSEC, on_pause, event);
		else
			fprintf(stderr, "what is '%s'?\n", line);
	}
}

static void on_pause(struct timer *t, void *userdata)
{
	on_lines(userdata);
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	size_t have = strlen(lines);
	ssize_t n = read(fd, lines + have, sizeof(lines) - 1 - have);

	if (n <= 0) /* what waits is still done; it may end with "quit" */
		return strchr(lines, '\n') ? sd_event_source_set_enabled(s, SD_EVENT_OFF) : sd_event_exit(userdata, 0);
	lines[have + (size_t)n] = '\0';
	on_lines(userdata);
	return 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	return sd_event_exit(userdata, 0);
}

int main(int argc, char **argv)
{
	static const struct queue_ops ops = {on_item, on_drained, on_drop};
	struct failure f = {0};
	struct driver_host *host;
	struct queue *queue;
	sd_event *event;
	sigset_t set;
	int r;

	if (argc != 2) {
		fprintf(stderr, "Usage: observe URI\n");
		return 2;
	}
	log_set_level_name(getenv("OBSERVE_DEBUG") ? "debug" : "notice");
	registry_add_builtin();
	if (registry_choose(argv[1], &driver, &f) != 0) {
		fprintf(stderr, "%s\n", f.message);
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (sd_event_default(&event) < 0 || clock_new(event, &the_clock) < 0 ||
	    queue_new(event, &ops, event, 10000, 256, &queue) < 0 ||
	    driver_host_new(queue, event, the_clock, NULL, event, &host) < 0)
		return 1;
	began = clock_monotonic(the_clock);
	sd_event_add_signal(event, NULL, SIGINT, on_signal, event);
	sd_event_add_signal(event, NULL, SIGTERM, on_signal, event);
	if (sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_input, event) < 0)
		(void)!read(STDIN_FILENO, lines, sizeof(lines) - 1); /* a file, which cannot be waited for */
	r = driver->open(argv[1], host, &connection, &f);
	if (r != 0) {
		fprintf(stderr, "%s\n", r < 0 ? strerror(-r) : f.message);
		return 1;
	}
	r = sd_event_loop(event);
	driver->close(connection);
	driver_host_close(host);
	queue_close(queue);
	driver_host_unref(host);
	queue_unref(queue);
	if (workers_wait_all(2 * USEC_PER_SEC) < 0)
		fprintf(stderr, "%u threads still hang\n", workers_alive());
	clock_free(the_clock);
	sd_event_unref(event);
	return r < 0 ? 1 : r;
}
