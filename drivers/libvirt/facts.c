/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <stdlib.h>
#include <string.h>

#include <libvirt/virterror.h>

#include "util/log.h"

/*
 * Facts of many domains in a few calls. A look at one costs five or six round trips; in a listing of all of them everything
 * but the XML can be had at once: who is persistent, starts by itself, or has a managed save is a flag of the listing
 * itself, and the states are statistics.
 *
 * They are facts of a moment, as a look is. So the object's changes are counted from before that moment on: a look that
 * uses them is as settled, or not, as one that asked for itself.
 */

struct lv_fact {
	sd_id128_t uuid;
	struct lv_facts facts;
};

struct lv_fact_table {
	size_t n, size;
	struct lv_fact *facts; /* in order of UUID */
};

void lv_fact_table_free(struct lv_fact_table *t)
{
	if (!t)
		return;
	free(t->facts);
	free(t);
}

static int by_uuid(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(sd_id128_t));
}

static struct lv_fact *find(const struct lv_fact_table *t, const sd_id128_t *uuid)
{
	return t->n > 0 ? bsearch(uuid, t->facts, t->n, sizeof(*t->facts), by_uuid) : NULL;
}

const struct lv_facts *lv_fact_table_find(const struct lv_fact_table *t, sd_id128_t uuid)
{
	struct lv_fact *f = find(t, &uuid);

	return f ? &f->facts : NULL;
}

static struct lv_fact_table *table_of(virDomainStatsRecordPtr *records, int n)
{
	struct lv_fact_table *t = calloc(1, sizeof(*t));

	if (!t || !(t->facts = calloc((size_t)n + 1, sizeof(*t->facts)))) {
		free(t);
		return NULL;
	}
	for (int i = 0; i < n; i++) {
		struct lv_fact *f = &t->facts[t->n];
		const virDomainStatsRecord *r = records[i];

		if (virDomainGetUUID(r->dom, f->uuid.bytes) == 0 &&
		    virTypedParamsGetInt(r->params, r->nparams, "state.state", &f->facts.state) == 1 &&
		    virTypedParamsGetInt(r->params, r->nparams, "state.reason", &f->facts.reason) == 1)
			t->n++;
	}
	qsort(t->facts, t->n, sizeof(*t->facts), by_uuid);
	return t;
}

enum flag { PERSISTENT, AUTOSTART, MANAGED_SAVE };

static void mark(struct lv_facts *f, enum flag flag)
{
	switch (flag) {
	case PERSISTENT:
		f->persistent = true;
		break;
	case AUTOSTART:
		f->autostart = true;
		break;
	case MANAGED_SAVE:
		f->managed_save = true;
		break;
	}
}

static bool mark_all(struct driver_connection *c, struct lv_fact_table *t, unsigned listing_flag, enum flag flag)
{
	virDomainPtr *domains = NULL;
	int n = virConnectListAllDomains(c->events, &domains, listing_flag);

	for (int i = 0; i < n; i++) {
		sd_id128_t uuid;
		struct lv_fact *f = virDomainGetUUID(domains[i], uuid.bytes) == 0 ? find(t, &uuid) : NULL;

		if (f)
			mark(&f->facts, flag);
		virDomainFree(domains[i]);
	}
	free(domains);
	return n >= 0;
}

struct lv_fact_table *lv_fact_table_new(struct driver_connection *c)
{
	virDomainStatsRecordPtr *records = NULL;
	struct lv_fact_table *t = NULL;
	int n;

	/* States alone ask no guest, and wait for none. */
	n = virConnectGetAllDomainStats(c->events, VIR_DOMAIN_STATS_STATE, &records, 0);
	if (n >= 0) {
		t = table_of(records, n);
		virDomainStatsRecordListFree(records);
	}
	if (t && mark_all(c, t, VIR_CONNECT_LIST_DOMAINS_PERSISTENT, PERSISTENT) &&
	    mark_all(c, t, VIR_CONNECT_LIST_DOMAINS_AUTOSTART, AUTOSTART) &&
	    mark_all(c, t, VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, MANAGED_SAVE))
		return t;
	/* Too many for one message, or a hypervisor that cannot: each domain is asked. */
	log_debug("libvirt: no facts of all domains at once: %s", virGetLastErrorMessage());
	lv_fact_table_free(t);
	return NULL;
}
