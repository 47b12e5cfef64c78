/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a job (broker/job.c), by a table and at random, whatever a driver reports: exactly one end, told once, never lost,
 * kept for 60 s; and whoever waits is called exactly once.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "broker/broker.h"
#include "fake-driver.h"
#include "util/log.h"

#define KEPT (60 * USEC_PER_SEC)

struct follower {
	char *path;
	unsigned added, finished, removed;
	bool ready;
	uint64_t ended;
	UT_hash_handle hh;
};

struct house {
	sd_event *event;
	struct clock *clock;
	struct broker *broker;
	struct broker_listener listener;
	struct object *connection;
	struct follower *jobs;
	char story[1024]; /* of jobs, since it was taken */
	unsigned waits, called;
};

/* ---- listening ----------------------------------------------------------------------------------------------------- */

static bool is_terminal(const char *state)
{
	return strcmp(state, "completed") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
}

static void judge(struct house *h, struct follower *f, const struct event *e)
{
	const struct value *v = e->props->v;

	assert_int_equal(f->removed, 0);
	if (strcmp(e->name, "Added") == 0) {
		f->added++;
		assert_string_equal(v[JOB_STATE].s, "running");
		assert_true(v[JOB_REMAINING_TIME].t == USEC_UNKNOWN && v[JOB_PERCENT].d == 0);
	} else if (strcmp(e->name, "Finished") == 0) {
		f->finished++;
		f->ended = clock_monotonic(h->clock);
		assert_true(is_terminal(v[JOB_STATE].s));
		assert_string_equal(e->reason, v[JOB_STATE].s);
		assert_true(!v[JOB_READY].b && !v[JOB_CANCELLABLE].b);
		/* an error is there when it failed, and only then */
		assert_int_equal(strcmp(v[JOB_STATE].s, "failed") == 0, v[JOB_ERROR].as[0][0] != 0);
		if (strcmp(v[JOB_STATE].s, "completed") == 0)
			assert_true(v[JOB_PERCENT].d == 100 && v[JOB_REMAINING_TIME].t == 0);
	} else if (strcmp(e->name, "Removed") == 0) {
		f->removed++;
		assert_int_equal(f->finished, 1);
		assert_true(clock_monotonic(h->clock) - f->ended >= KEPT);
	} else {
		assert_string_equal(e->name, "Updated");
		assert_int_equal(f->finished, 0);
		assert_string_equal(v[JOB_STATE].s, "running");
		/* ready is told when it becomes so */
		assert_int_equal(strcmp(e->reason, "ready") == 0, v[JOB_READY].b && !f->ready);
		f->ready = v[JOB_READY].b;
	}
	assert_int_equal(f->added, 1);
	assert_true(f->finished <= 1);
}

static void on_events(struct event *const *events, size_t n, void *userdata)
{
	struct house *h = userdata;

	for (size_t i = 0; i < n; i++) {
		const struct event *e = events[i];
		struct follower *f = NULL;
		size_t at = strlen(h->story);

		if (e->kind != KIND_JOB)
			continue;
		HASH_FIND_STR(h->jobs, e->path, f);
		if (!f) {
			f = calloc(1, sizeof(*f));
			f->path = strdup(e->path);
			HASH_ADD_KEYPTR(hh, h->jobs, f->path, strlen(f->path), f);
		}
		judge(h, f, e);
		if (at + 64 < sizeof(h->story))
			snprintf(h->story + at, sizeof(h->story) - at, "%s%s%s%s", at ? " " : "", e->name, e->reason[0] ? "/" : "",
				 e->reason);
	}
}

static void on_progress(struct object *job, unsigned changed, void *userdata)
{
	struct house *h = userdata;
	struct follower *f = NULL;

	/* of one whose beginning is told at the end of this turn: the face waits for that too */
	HASH_FIND_STR(h->jobs, job->path, f);
	assert_true(!f || f->finished == 0);
	assert_true(changed != 0 && job->props->v[JOB_PERCENT].d >= 0 && job->props->v[JOB_PERCENT].d <= 100);
	/* a total that is not known is no progress */
	if (strcmp(job->props->v[JOB_TYPE].s, "unbounded") == 0)
		assert_true(job->props->v[JOB_PERCENT].d == 0);
}

static void on_done(const struct failure *f, uint64_t version, const struct result *r, void *userdata)
{
	struct house *h = userdata;

	h->called++;
}

/* ---- the house ----------------------------------------------------------------------------------------------------- */

static void settle(struct house *h)
{
	while (sd_event_run(h->event, 0) > 0)
		;
	clock_advance(h->clock, 0);
	while (sd_event_run(h->event, 0) > 0)
		;
}

#define DOMAINS 4

static const char *uuid_of(unsigned i)
{
	static char text[40];

	snprintf(text, sizeof(text), "%08u-1111-4111-8111-111111111111", i + 1);
	return text;
}

static void greet(struct house *h)
{
	fake_hello();
	settle(h);
	for (unsigned i = 0; i < DOMAINS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "d%u", i);
		fake_report(uuid_of(i), CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen(name, true, (int)i + 1));
	}
	fake_listed(true);
	settle(h);
}

static void open_house(struct house *h)
{
	struct broker_config config = {0};
	struct failure f = {0};

	*h = (struct house){0};
	assert_true(sd_event_new(&h->event) >= 0);
	assert_int_equal(clock_new_virtual(5, &h->clock), 0);
	assert_int_equal(broker_new(&config, h->event, h->clock, &h->broker, &f), 0);
	h->listener = (struct broker_listener){.events = on_events, .progress = on_progress, .userdata = h};
	broker_add_listener(h->broker, &h->listener);
	assert_int_equal(broker_open(h->broker, NULL, "fake:///jobs", &h->connection, &f), 0);
	settle(h);
	greet(h);
}

static void close_house(struct house *h)
{
	struct follower *f, *tmp;

	broker_free(h->broker);
	clock_free(h->clock);
	sd_event_unref(h->event);
	HASH_ITER(hh, h->jobs, f, tmp)
	{
		HASH_DEL(h->jobs, f);
		free(f->path);
		free(f);
	}
}

static struct object *domain(struct house *h, unsigned i)
{
	struct object *o = NULL;
	char name[8];

	snprintf(name, sizeof(name), "d%u", i);
	assert_int_equal(broker_lookup(h->broker, KIND_DOMAIN, name, NULL, NULL, &o, NULL), 0);
	return o;
}

/* Lost, and found again. */
static void lose(struct house *h)
{
	fake_goodbye("gone");
	settle(h);
	for (int i = 0; i < 100 && !fake; i++) {
		clock_advance(h->clock, USEC_PER_SEC);
		settle(h);
	}
	assert_non_null(fake);
	greet(h);
}

/* ---- the table ----------------------------------------------------------------------------------------------------- */

/*
 * What happens to one job, a letter each:
 *   p progress with a total   u without   r ready   c cancel   k complete   v it vanishes (a foreign one)
 *   o its result: done   x cancelled   f failed   l the hypervisor is lost   s 59 s pass   t 2 s pass
 * A capital C or K is one that has to be refused.
 */
static const struct {
	const char *what, *story;
	bool foreign;
} lives[] = {
	{"o", "Added/block-copy Finished/completed"},
	{"f", "Added/block-copy Finished/failed"},
	{"x", "Added/block-copy Finished/cancelled"},
	{"l", "Added/block-copy Finished/failed"},
	{"po", "Added/block-copy Updated Finished/completed"},
	{"ppppo", "Added/block-copy Updated Finished/completed"},
	/* that it can be cancelled is told, with or without a total; then the total */
	{"uo", "Added/block-copy Updated Finished/completed"},
	{"upuo", "Added/block-copy Updated Updated Updated Finished/completed"},
	/* one end, and nothing behind it, whatever still comes */
	{"oofxprl", "Added/block-copy Finished/completed"},
	{"foxl", "Added/block-copy Finished/failed"},
	{"xofl", "Added/block-copy Finished/cancelled"},
	{"lofx", "Added/block-copy Finished/failed"},
	/* cancelling is a wish: the end says what became of it */
	{"pcx", "Added/block-copy Updated Updated/cancel-requested Finished/cancelled"},
	{"pco", "Added/block-copy Updated Updated/cancel-requested Finished/completed"},
	{"pcf", "Added/block-copy Updated Updated/cancel-requested Finished/failed"},
	{"pcl", "Added/block-copy Updated Updated/cancel-requested Finished/failed"},
	{"pccx", "Added/block-copy Updated Updated/cancel-requested Finished/cancelled"},
	{"Co", "Added/block-copy Finished/completed"},
	{"poC", "Added/block-copy Updated Finished/completed"},
	/* a copy */
	{"pKrko", "Added/block-copy Updated Updated/ready Finished/completed"},
	{"prprko", "Added/block-copy Updated Updated/ready Updated Updated/ready Finished/completed"},
	{"prcx", "Added/block-copy Updated Updated/ready Updated/cancel-requested Finished/cancelled"},
	{"roK", "Added/block-copy Updated/ready Finished/completed"},
	{"prl", "Added/block-copy Updated Updated/ready Finished/failed"},
	/* it is kept, and then it goes */
	{"os", "Added/block-copy Finished/completed"},
	{"ost", "Added/block-copy Finished/completed Removed"},
	{"ssssf", "Added/block-copy Finished/failed"},
	{"lst", "Added/block-copy Finished/failed Removed"},
	/* somebody else's */
	{"po", "Added/block-copy Updated Finished/completed", true},
	{"prko", "Added/block-copy Updated Updated/ready Finished/completed", true},
	{"pcx", "Added/block-copy Updated Updated/cancel-requested Finished/cancelled", true},
	{"v", "Added/block-copy Finished/failed", true},
	{"vox", "Added/block-copy Finished/failed", true},
	{"l", "Added/block-copy Finished/failed", true},
};

static void end_it(bool foreign, uint64_t token, enum vireo_error error)
{
	if (foreign)
		fake_foreign(token, uuid_of(0), OP_DOMAIN_BLOCK_COPY, "vda", true, error);
	else
		fake_result(token, error, "said so");
}

static void live(struct house *h, const char *path, uint64_t token, bool foreign, char what)
{
	struct object *job = broker_find(h->broker, path);

	switch (what) {
	case 'p':
		fake_progress(token, 10, 100, false);
		break;
	case 'u':
		fake_progress(token, 0, 0, false);
		break;
	case 'r':
		fake_progress(token, 100, 100, true);
		break;
	case 'o':
		end_it(foreign, token, VIREO_OK);
		break;
	case 'x':
		end_it(foreign, token, VIREO_CANCELLED);
		break;
	case 'f':
		end_it(foreign, token, VIREO_OPERATION_FAILED);
		break;
	case 'v':
		end_it(foreign, token, VIREO_OUTCOME_UNKNOWN);
		break;
	case 'l':
		lose(h);
		break;
	case 's':
		clock_advance(h->clock, 59 * USEC_PER_SEC);
		break;
	case 't':
		clock_advance(h->clock, 2 * USEC_PER_SEC);
		break;
	default:
		assert_non_null(job);
		if (what == 'c' || what == 'k')
			assert_int_equal(what == 'c' ? broker_cancel(h->broker, job, NULL) : broker_complete(h->broker, job, NULL), 0);
		else
			assert_int_not_equal(what == 'C' ? broker_cancel(h->broker, job, NULL) : broker_complete(h->broker, job, NULL), 0);
		if (what == 'c')
			assert_true(fake->cancelled == token);
		if (what == 'k')
			assert_true(fake->completed == token);
	}
	settle(h);
}

static void each_life_has_one_end(void **state)
{
	for (size_t i = 0; i < ELEMENTS(lives); i++) {
		static struct house h;
		struct object *job = NULL;
		_cleanup_(freep) char *path = NULL;
		uint64_t token = FOREIGN_TOKEN | 7;
		bool foreign = lives[i].foreign;

		open_house(&h);
		if (foreign) {
			fake_foreign(7, uuid_of(0), OP_DOMAIN_BLOCK_COPY, "vda", false, VIREO_OK);
			settle(&h);
			job = broker_first(h.broker, KIND_JOB);
			assert_true(job->props->v[JOB_STARTED_BY].u == UINT32_MAX);
		} else {
			struct call call = {.operation = OP_DOMAIN_BLOCK_COPY, .object = domain(&h, 0), .fd = -1, .text = "vda",
					    .text2 = "<disk/>"};

			assert_int_equal(broker_submit(h.broker, &call, on_done, &h, &job, NULL), 0);
			token = fake->request->token;
			settle(&h);
		}
		path = strdup(job->path);
		for (const char *p = lives[i].what; *p; p++)
			live(&h, path, token, foreign, *p);
		if (strcmp(h.story, lives[i].story) != 0)
			fail_msg("%s%s\nexpected: %s\ngot:      %s", lives[i].what, foreign ? ", somebody else's" : "", lives[i].story,
				 h.story);
		assert_int_equal(h.called, foreign ? 0 : 1);
		close_house(&h);
	}
}

/* ---- at random ----------------------------------------------------------------------------------------------------- */

#define STEPS 30000
#define TOKENS 64

struct running {
	uint64_t token;
	bool foreign;
};

/* A token that is known, or was, or never is. */
static uint64_t some_token(const struct running *all, size_t n, uint64_t *ret_number, bool *ret_foreign)
{
	const struct running *r = n > 0 && rand() % 10 ? &all[(size_t)rand() % n] : NULL;

	*ret_foreign = r ? r->foreign : rand() % 2;
	*ret_number = r ? r->token : (uint64_t)(rand() % 5000);
	return *ret_foreign ? *ret_number | FOREIGN_TOKEN : *ret_number;
}

static struct object *some_job(struct house *h)
{
	size_t n = broker_count(h->broker, KIND_JOB), at = n ? (size_t)rand() % n : 0;
	struct object *o = broker_first(h->broker, KIND_JOB);

	while (o && at-- > 0)
		o = o->next;
	return o;
}

static void stir(struct house *h, struct running *all, size_t *n)
{
	static const enum operation operations[] = {OP_DOMAIN_SAVE, OP_DOMAIN_BLOCK_COPY, OP_DOMAIN_START, OP_DOMAIN_DESTROY,
						    OP_DOMAIN_SUSPEND, OP_DOMAIN_MIGRATE};
	static const enum vireo_error ends[] = {VIREO_OK, VIREO_CANCELLED, VIREO_OPERATION_FAILED, VIREO_OUTCOME_UNKNOWN};
	static uint64_t numbers;
	struct call call = {.fd = -1, .text = rand() % 2 ? "vda" : "vdb", .text2 = "<disk/>"};
	uint64_t number, token;
	struct object *job;
	bool foreign;

	switch (rand() % 12) {
	case 0:
	case 1:
		call.operation = operations[(unsigned)rand() % ELEMENTS(operations)];
		call.object = domain(h, (unsigned)rand() % DOMAINS);
		if (broker_submit(h->broker, &call, on_done, h, &job, NULL) == 0) {
			h->waits++;
			all[(*n)++ % TOKENS] = (struct running){.token = fake->request->token};
		}
		break;
	case 2:
		number = ++numbers;
		all[(*n)++ % TOKENS] = (struct running){.token = number, .foreign = true};
		fake_foreign(number, uuid_of((unsigned)rand() % (DOMAINS + 1)), OP_DOMAIN_SAVE, NULL, false, VIREO_OK);
		break;
	case 3:
	case 4:
	case 5:
		token = some_token(all, *n < TOKENS ? *n : TOKENS, &number, &foreign);
		fake_progress(token, (uint64_t)(rand() % 120), rand() % 3 ? 100 : 0, rand() % 5 == 0);
		break;
	case 6:
	case 7:
		token = some_token(all, *n < TOKENS ? *n : TOKENS, &number, &foreign);
		if (foreign)
			fake_foreign(number, uuid_of(0), OP_DOMAIN_SAVE, NULL, true, ends[(unsigned)rand() % ELEMENTS(ends)]);
		else
			fake_result(token, ends[(unsigned)rand() % ELEMENTS(ends)], "said so");
		break;
	case 8:
	case 9:
		job = some_job(h);
		if (job && rand() % 2)
			(void)broker_cancel(h->broker, job, NULL);
		else if (job)
			(void)broker_complete(h->broker, job, NULL);
		break;
	case 10:
		job = some_job(h);
		if (job && broker_wait(job, on_done, h) == 0)
			h->waits++;
		break;
	default:
		if (rand() % 30 == 0)
			lose(h);
		else
			clock_advance(h->clock, (uint64_t)(rand() % 2000) * USEC_PER_MSEC);
	}
}

static void any_lives_have_one_end_each(void **state)
{
	const char *given = getenv("JOBS_SEED");
	unsigned seed = given ? (unsigned)atoi(given) : (unsigned)getpid(), n_jobs = 0;
	static struct house h;
	struct running all[TOKENS];
	size_t n = 0;

	print_message("jobs at random, seed %u\n", seed);
	srand(seed);
	open_house(&h);
	for (int i = 0; i < STEPS; i++) {
		stir(&h, all, &n);
		if (rand() % 3 == 0)
			settle(&h);
	}
	settle(&h);
	/* the hypervisor goes: none is left running */
	lose(&h);
	for (struct object *o = broker_first(h.broker, KIND_JOB); o; o = o->next)
		assert_true(is_terminal(o->props->v[JOB_STATE].s));
	for (struct follower *f = h.jobs; f; f = f->hh.next, n_jobs++) {
		assert_int_equal(f->added, 1);
		assert_int_equal(f->finished, 1);
		/* never lost before its time */
		assert_int_equal(f->removed, broker_find(h.broker, f->path) ? 0 : 1);
	}
	assert_int_equal(h.waits, h.called);
	clock_advance(h.clock, KEPT + USEC_PER_SEC);
	settle(&h);
	assert_int_equal(broker_count(h.broker, KIND_JOB), 0);
	print_message("%u jobs, %u waited for\n", n_jobs, h.waits);
	assert_true(n_jobs > STEPS / 100);
	close_house(&h);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_life_has_one_end),
		cmocka_unit_test(any_lives_have_one_end_each),
	};

	log_set_level_name("err");
	registry_add(&fake_driver);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
