/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
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
 * observe URI - print every report of the driver that takes this URI, one a line, until a line "quit", the end of
 * the input, or a signal. For seeing what a driver makes of its hypervisor, without the broker.
 *
 * Lines on standard input: "list", "look UUID" (a domain), "quit".
 */

static const struct driver *driver;
static struct driver_connection *connection;
static uint64_t serial;
static bool greeted;
static uint64_t began;
static struct clock *the_clock;

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
		printf("PROGRESS %llu %llu/%llu %.1f%%%s\n", (unsigned long long)r->progress.token,
		       (unsigned long long)r->progress.done, (unsigned long long)r->progress.total, r->progress.percent,
		       r->progress.ready ? " ready" : "");
		break;
	case REPORT_RESULT:
		printf("RESULT %llu %s\n", (unsigned long long)r->result.token,
		       r->result.failure.message ? r->result.failure.message : "ok");
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

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	char line[256];
	sd_id128_t uuid;
	ssize_t n = read(fd, line, sizeof(line) - 1);

	if (n <= 0)
		return sd_event_exit(userdata, 0);
	line[n] = '\0';
	for (char *save, *l = strtok_r(line, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (strcmp(l, "quit") == 0)
			return sd_event_exit(userdata, 0);
		if (strcmp(l, "list") == 0 && greeted)
			driver->list(connection, ++serial);
		else if (strncmp(l, "look ", 5) == 0 && greeted && sd_id128_from_string(l + 5, &uuid) == 0)
			driver->look(connection, KIND_DOMAIN, uuid, ++serial);
		else
			fprintf(stderr, "what is '%s'?\n", l);
	}
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
		fprintf(stderr, "no commands from standard input\n");
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
