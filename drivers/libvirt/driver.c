/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <errno.h>
#include <libxml/parser.h>
#include <string.h>
#include <time.h>

#include "jobs.h"
#include "libvirt-driver.h"
#include "loop.h"
#include "util/log.h"
#include "xml.h"

/* The table of the driver, which URIs are its own, and the life of a connection. */

uint64_t lv_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

/* ---- which URIs ------------------------------------------------------------------------------------------- */

static const char *const schemes[] = {
	"qemu", "test", "lxc", "xen", "vbox", "esx", "vpx", "gsx", "vmwareplayer", "vmwarews", "vmwarefusion", "bhyve",
	"openvz", "vz", "parallels", "ch", "hyperv", "storage", "network",
};

static const char *const transports[] = {"unix", "tls", "ssh", "libssh", "libssh2", "tcp", "ext"};

static const char *const example_uris[] = {
	"qemu:///system",     "qemu:///session", "qemu+ssh://root@host/system", "qemu+tls://host/system",
	"test:///default",    "test:///path/to/node.xml", "lxc:///system",      "xen:///system",
	"vbox:///session",    "esx://host/?no_verify=1",  "bhyve:///system",    "ch:///system",
	"openvz:///system",   "vz:///system",    "hyperv://host/",              "storage:///system",
	"network:///system",  NULL,
};

static bool is_among(const char *s, size_t n, const char *const *words, size_t n_words)
{
	for (size_t i = 0; i < n_words; i++)
		if (strlen(words[i]) == n && strncmp(words[i], s, n) == 0)
			return true;
	return false;
}

static enum claim broken(char **ret_why, const char *why)
{
	*ret_why = strdup(why);
	return CLAIM_BROKEN;
}

static enum claim lv_claim(const char *text, char **ret_why)
{
	_cleanup_(lv_uri_free) xmlURIPtr uri = NULL;
	size_t whole = strcspn(text, ":"), n = strcspn(text, "+:");
	const char *path;

	if (text[whole] != ':' || n > whole || !is_among(text, n, schemes, ELEMENTS(schemes)))
		return CLAIM_NOT_MINE;
	if (n < whole && !is_among(text + n + 1, whole - n - 1, transports, ELEMENTS(transports)))
		return broken(ret_why, "there is no such transport; there are unix, tls, ssh, libssh, libssh2, tcp and ext");
	uri = xmlParseURI(text);
	if (!uri)
		return broken(ret_why, "it is not a well-formed URI");
	if (strncmp(text + whole, "://", 3) != 0)
		return broken(ret_why, "after the scheme comes ://, as in qemu:///system");
	path = uri->path ? uri->path : "";
	if (n == strlen("qemu") && strncmp(text, "qemu", n) == 0 && strcmp(path, "/system") != 0 &&
	    strcmp(path, "/session") != 0)
		return broken(ret_why, "its path must be /system or /session, as in qemu:///system");
	if (n == strlen("test") && strncmp(text, "test", n) == 0 && (!path[0] || strcmp(path, "/") == 0))
		return broken(ret_why, "its path must be /default or a file, as in test:///default");
	return CLAIM_MINE;
}

/* ---- counting --------------------------------------------------------------------------------------------- */

void lv_ref(struct driver_connection *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

void lv_unref(struct driver_connection *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	lv_objects_free(c);
	driver_host_unref(c->host);
	pthread_cond_destroy(&c->room);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->opening);
	free(c->lost_why);
	free(c->uri);
	free(c);
}

void lv_release(void *connection)
{
	lv_unref(connection);
}

void lv_use(struct driver_connection *c)
{
	lv_ref(c);
	atomic_fetch_add_explicit(&c->users, 1, memory_order_relaxed);
}

void lv_leave(struct driver_connection *c)
{
	if (atomic_fetch_sub_explicit(&c->users, 1, memory_order_acq_rel) == 1) {
		/* This may ask libvirtd, and hang; so it is never done on the main loop's thread, which is no user. */
		virConnectPtr all[] = {c->control, c->lasting, c->ops, c->events};

		lv_release_handles(c);
		for (size_t i = 0; i < ELEMENTS(all); i++)
			if (all[i])
				virConnectClose(all[i]);
		c->control = c->lasting = c->ops = c->events = NULL;
	}
	lv_unref(c);
}

/* ---- work ------------------------------------------------------------------------------------------------- */

struct work {
	struct driver_connection *c;
	lv_work_fn fn, drop;
	void *data;
};

static void do_work(void *data)
{
	struct work *w = data;

	w->fn(w->c, w->data);
	lv_leave(w->c);
	free(w);
}

bool lv_submit(struct driver_connection *c, struct workers *pool, lv_work_fn fn, void *data, lv_work_fn drop)
{
	struct work *w;

	if (c->closing)
		return false;
	w = malloc(sizeof(*w));
	if (!w)
		return false;
	*w = (struct work){c, fn, drop, data};
	lv_use(c);
	if (workers_submit(pool, do_work, w) == 0)
		return true;
	/* The keeper is a user as long as it isn't closing: neither count falls to 0 here. */
	atomic_fetch_sub_explicit(&c->users, 1, memory_order_acq_rel);
	lv_unref(c);
	free(w);
	return false;
}

/* Work that was not begun when the connection was closed, on the main loop's thread. */
static void abandon_work(void *data)
{
	struct work *w = data;

	if (w->drop)
		w->drop(w->c, w->data);
	lv_leave(w->c);
	free(w);
}

static void close_pools(struct driver_connection *c)
{
	struct workers *pools[] = {
		c->keeper, c->lookers, c->lister, c->settler, c->operators, c->lasters, c->controllers,
	};

	for (size_t i = 0; i < ELEMENTS(pools); i++)
		if (pools[i])
			workers_close(pools[i], abandon_work);
}

/* ---- driver.h --------------------------------------------------------------------------------------------- */

static int new_pools(struct driver_connection *c)
{
	int r;

	if ((r = workers_new("lv-keeper", 1, &c->keeper)) < 0 ||
	    (r = workers_new("lv-look", LV_LOOKERS, &c->lookers)) < 0 ||
	    (r = workers_new("lv-list", 1, &c->lister)) < 0 ||
	    (r = workers_new("lv-settle", 1, &c->settler)) < 0 ||
	    (r = workers_new("lv-operate", LV_OPERATORS, &c->operators)) < 0 ||
	    (r = workers_new("lv-last", LV_OPERATORS, &c->lasters)) < 0 ||
	    (r = workers_new("lv-control", 3, &c->controllers)) < 0)
		return r;
	return 0;
}

static int lv_open(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f)
{
	struct driver_connection *c;
	pthread_condattr_t monotonic;
	bool begun;
	int r;

	r = lv_loop_start();
	if (r < 0)
		return r;
	xmlInitParser(); /* before threads use it */
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	atomic_init(&c->refs, 1);
	atomic_init(&c->users, 0);
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->opening, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_cond_init(&c->room, NULL);
	c->host = driver_host_ref(host);
	c->uri = strdup(uri);
	r = c->uri ? new_pools(c) : -ENOMEM;
	if (r == 0) {
		pthread_mutex_lock(&c->lock);
		begun = lv_submit(c, c->keeper, lv_keeper, NULL, NULL);
		pthread_mutex_unlock(&c->lock);
		if (begun) {
			*ret = c;
			return 0;
		}
		r = -ENOMEM;
	}
	close_pools(c);
	lv_unref(c);
	return r;
}

static void lv_close(struct driver_connection *c)
{
	pthread_mutex_lock(&c->lock);
	/* From here on nobody submits work: the pools may go. */
	c->closing = true;
	pthread_cond_broadcast(&c->room);
	lv_drop_causes(c);
	pthread_mutex_unlock(&c->lock);
	close_pools(c);
	/* Only now: so that this thread was not the last user, who closes libvirt's connections, which may hang. */
	pthread_mutex_lock(&c->lock);
	c->closed = true;
	pthread_cond_broadcast(&c->wake);
	pthread_mutex_unlock(&c->lock);
	lv_unref(c);
}

const struct driver libvirt_driver = {
	.api = DRIVER_API,
	.name = "libvirt",
	.summary = "any hypervisor that libvirt reaches, local or remote",
	.uris = example_uris,
	.events = lv_events,
	.operations = lv_operations,
	.causes = {
		[KIND_DOMAIN] = LV_DOMAIN_CAUSES,
		[KIND_POOL] = LV_POOL_CAUSES,
		[KIND_NETWORK] = LV_NETWORK_CAUSES,
	},
	/* Milliseconds, as a rule; but the machine may be busy. */
	.started_overdue = 3 * USEC_PER_SEC,
	.claim = lv_claim,
	.open = lv_open,
	.close = lv_close,
	.list = lv_list,
	.look = lv_look_settled,
	.operate = lv_operate,
	.cancel = lv_cancel,
	.complete = lv_complete,
};
