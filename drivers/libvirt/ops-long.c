/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <libvirt/virterror.h>
#include <limits.h>
#include <string.h>

#include "errors.h"
#include "jobs.h"
#include "util/log.h"
#include "util/utf8.h"
#include "xml.h"

/* Operations on domains that last: their call returns when they have ended, or an event ends them (block jobs). */

static const char *option(const struct lv_op *op, const char *name)
{
	return vdict_s(op->r->options, name, NULL);
}

static int need_absolute(const struct lv_op *op, struct failure *f)
{
	if (op->r->text && op->r->text[0] == '/')
		return 0;
	return failure_set(f, VIREO_INVALID_ARGS, "'%s' is not an absolute path on the host of the hypervisor.",
			   op->r->text ? op->r->text : "");
}

/* ---- save, restore, dump ---------------------------------------------------------------------------------- */

static const struct lv_flag save_flags[] = {
	{"bypass-cache", VIR_DOMAIN_SAVE_BYPASS_CACHE},
	{"running", VIR_DOMAIN_SAVE_RUNNING},
	{"paused", VIR_DOMAIN_SAVE_PAUSED},
	{0},
};

static int save(struct lv_op *op, struct failure *f)
{
	const char *xml = option(op, "xml");
	unsigned flags = lv_flags(op, save_flags);
	int r = need_absolute(op, f);

	if (r != 0 || (xml && (r = lv_xml_check(xml, "domain", f)) != 0))
		return r;
	lv_follow(op, LV_FOLLOW_JOB, true);
	return lv_result(flags || xml ? virDomainSaveFlags(op->handle, op->r->text, xml, flags) :
					virDomainSave(op->handle, op->r->text),
			 f);
}

static int managed_save(struct lv_op *op, struct failure *f)
{
	lv_follow(op, LV_FOLLOW_JOB, true);
	return lv_result(virDomainManagedSave(op->handle, lv_flags(op, save_flags)), f);
}

static int restore(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"bypass-cache", VIR_DOMAIN_SAVE_BYPASS_CACHE},
		{"running", VIR_DOMAIN_SAVE_RUNNING},
		{"paused", VIR_DOMAIN_SAVE_PAUSED},
		{"reset-nvram", VIR_DOMAIN_SAVE_RESET_NVRAM},
		{0},
	};
	struct result *result = &op->report->result;
	virConnectPtr conn = lv_extra(op->c, &op->c->lasting);
	const char *xml = option(op, "xml");
	unsigned flags = lv_flags(op, table);
	_cleanup_(freep) char *saved = NULL;
	bool missing;
	sd_id128_t uuid;
	int r = need_absolute(op, f);

	if (r != 0 || (xml && (r = lv_xml_check(xml, "domain", f)) != 0))
		return r;
	if (!conn)
		return lv_failure(f);
	/* The call doesn't say which domain it has restored; the file does. */
	saved = virDomainSaveImageGetXMLDesc(conn, op->r->text, 0);
	missing = !saved && lv_error_is_no_file();
	if (flags || xml)
		r = virDomainRestoreFlags(conn, op->r->text, xml, flags);
	else
		r = virDomainRestore(conn, op->r->text);
	if (r == 0 && saved && lv_xml_read_uuid(saved, &uuid) == 0) {
		result->uuid = uuid;
		result->kind = KIND_DOMAIN;
	}
	/* a disk of the domain may be missing as well: that is another matter */
	missing = missing && r < 0 && lv_error_is_no_file();
	r = lv_result(r, f);
	if (missing)
		r = f->error = VIREO_NOT_FOUND;
	return r;
}

static int dump(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"memory-only", VIR_DUMP_MEMORY_ONLY},
		{"live", VIR_DUMP_LIVE},
		{"crash", VIR_DUMP_CRASH},
		{"reset", VIR_DUMP_RESET},
		{"bypass-cache", VIR_DUMP_BYPASS_CACHE},
		{0},
	};
	static const struct lv_flag formats[] = {
		{"raw", VIR_DOMAIN_CORE_DUMP_FORMAT_RAW},
		{"kdump-zlib", VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_ZLIB},
		{"kdump-lzo", VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_LZO},
		{"kdump-snappy", VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_SNAPPY},
		{"win-dmp", VIR_DOMAIN_CORE_DUMP_FORMAT_WIN_DMP},
		{0},
	};
	const char *word = option(op, "format");
	const struct lv_flag *format = formats;
	unsigned flags = lv_flags(op, table);
	int r = need_absolute(op, f);

	if (r != 0)
		return r;
	while (word && format->option && strcmp(format->option, word) != 0)
		format++;
	if (!format->option)
		return failure_set(f, VIREO_INVALID_OPTION,
				   "Option format: there is no '%s'; there are raw, kdump-zlib, kdump-lzo, kdump-snappy and win-dmp.",
				   word);
	/* QEMU has no way to end a dump of memory alone. */
	lv_follow(op, LV_FOLLOW_JOB, !(flags & VIR_DUMP_MEMORY_ONLY));
	if (format == formats)
		return lv_result(virDomainCoreDump(op->handle, op->r->text, flags), f);
	return lv_result(virDomainCoreDumpWithFormat(op->handle, op->r->text, format->flag, flags), f);
}

/* ---- migration -------------------------------------------------------------------------------------------- */

struct params {
	virTypedParameterPtr list;
	int n, size;
};

static void params_clear(struct params *p)
{
	virTypedParamsFree(p->list, p->n);
}

/* 0, or -1 and libvirt's error. */
static int fill_params(struct lv_op *op, struct params *p, unsigned *flags, struct failure *f)
{
	static const struct {
		const char *option, *param;
	} strings[] = {
		{"migrate-uri", VIR_MIGRATE_PARAM_URI},		 {"disks-uri", VIR_MIGRATE_PARAM_DISKS_URI},
		{"graphics-uri", VIR_MIGRATE_PARAM_GRAPHICS_URI}, {"listen-address", VIR_MIGRATE_PARAM_LISTEN_ADDRESS},
		{"name", VIR_MIGRATE_PARAM_DEST_NAME},		 {"xml", VIR_MIGRATE_PARAM_DEST_XML},
		{"persistent-xml", VIR_MIGRATE_PARAM_PERSIST_XML},
	};
	const struct vdict_item *disks = vdict_get(op->r->options, "disks");
	uint64_t bandwidth = vdict_t(op->r->options, "bandwidth", 0);
	uint32_t parallel = vdict_u(op->r->options, "parallel", 0);
	const char *copy = option(op, "copy-storage");

	for (size_t i = 0; i < ELEMENTS(strings); i++) {
		const char *value = option(op, strings[i].option);

		if (value && virTypedParamsAddString(&p->list, &p->n, &p->size, strings[i].param, value) < 0)
			return lv_failure(f);
	}
	for (char **disk = disks && disks->type == 'a' ? disks->a : (char *[]){NULL}; *disk; disk++)
		if (virTypedParamsAddString(&p->list, &p->n, &p->size, VIR_MIGRATE_PARAM_MIGRATE_DISKS, *disk) < 0)
			return lv_failure(f);
	if (bandwidth > 0) {
		/* libvirt counts in MiB a second, and takes 0 for no limit */
		unsigned long long mib = (bandwidth + (1 << 20) - 1) >> 20;

		if (virTypedParamsAddULLong(&p->list, &p->n, &p->size, VIR_MIGRATE_PARAM_BANDWIDTH, mib) < 0)
			return lv_failure(f);
	}
	if (parallel > 0) {
		if (parallel > INT_MAX ||
		    virTypedParamsAddInt(&p->list, &p->n, &p->size, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, (int)parallel) < 0)
			return lv_failure(f);
		*flags |= VIR_MIGRATE_PARALLEL;
	}
	if (!copy || strcmp(copy, "none") == 0)
		return 0;
	if (strcmp(copy, "all") == 0)
		*flags |= VIR_MIGRATE_NON_SHARED_DISK;
	else if (strcmp(copy, "inc") == 0)
		*flags |= VIR_MIGRATE_NON_SHARED_INC;
	else
		return failure_set(f, VIREO_INVALID_OPTION, "Option copy-storage: there is no '%s'; there are none, all and inc.", copy);
	return 0;
}

static int migrate(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"live", VIR_MIGRATE_LIVE},
		{"p2p", VIR_MIGRATE_PEER2PEER},
		{"tunnelled", VIR_MIGRATE_TUNNELLED},
		{"persistent", VIR_MIGRATE_PERSIST_DEST},
		{"undefine-source", VIR_MIGRATE_UNDEFINE_SOURCE},
		{"paused", VIR_MIGRATE_PAUSED},
		{"offline", VIR_MIGRATE_OFFLINE},
		{"unsafe", VIR_MIGRATE_UNSAFE},
		{"compressed", VIR_MIGRATE_COMPRESSED},
		{"abort-on-error", VIR_MIGRATE_ABORT_ON_ERROR},
		{"auto-converge", VIR_MIGRATE_AUTO_CONVERGE},
		{"postcopy", VIR_MIGRATE_POSTCOPY},
		{"tls", VIR_MIGRATE_TLS},
		{0},
	};
	_cleanup_(params_clear) struct params params = {0};
	unsigned flags = lv_flags(op, table);
	virConnectPtr there;
	virDomainPtr moved;
	int r;

	r = fill_params(op, &params, &flags, f);
	if (r != 0)
		return r;
	if (flags & VIR_MIGRATE_POSTCOPY) {
		pthread_mutex_lock(&op->c->lock);
		op->postcopy = true;
		pthread_mutex_unlock(&op->c->lock);
	}
	if (flags & VIR_MIGRATE_PEER2PEER) {
		lv_follow(op, LV_FOLLOW_JOB, true);
		return lv_result(virDomainMigrateToURI3(op->handle, op->r->text, params.list, (unsigned)params.n, flags), f);
	}
	if (flags & VIR_MIGRATE_TUNNELLED)
		return failure_set(f, VIREO_INVALID_OPTION, "Option tunnelled needs p2p.");
	there = lv_open_one(op->r->text);
	if (!there) {
		r = lv_failure(f);
		/* it is the other one that cannot be reached, or a URI that no driver takes */
		if (virGetLastErrorCode() == VIR_ERR_NO_CONNECT)
			r = VIREO_INVALID_URI;
		return f->error = r == VIREO_DISCONNECTED ? VIREO_OPERATION_FAILED : r;
	}
	lv_follow(op, LV_FOLLOW_JOB, true);
	moved = virDomainMigrate3(op->handle, there, params.list, (unsigned)params.n, flags);
	r = moved ? 0 : lv_failure(f);
	if (moved)
		virDomainFree(moved);
	virConnectClose(there);
	return r;
}

static void postcopy_work(struct driver_connection *c, void *data)
{
	struct lv_op *op = data;
	virDomainPtr dom = lv_control_domain(c, op);

	if (!dom || virDomainMigrateStartPostCopy(dom, 0) < 0)
		log_warning("libvirt: the migration of '%s' cannot be switched to post-copy: %s",
			    op->r->name ? op->r->name : "?", virGetLastErrorMessage());
	if (dom)
		virDomainFree(dom);
	lv_op_drop(c, op);
}

void lv_job_iteration(struct driver_connection *c, virDomainPtr dom, int iteration)
{
	/* The second pass begins when the first has ended. */
	if (iteration < 2)
		return;
	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next) {
		if (!op->postcopy || !lv_job_is_of(op, dom))
			continue;
		op->postcopy = false;
		op->refs++;
		if (!lv_submit(c, c->controllers, postcopy_work, op, lv_op_drop))
			op->refs--;
		break;
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- block jobs ------------------------------------------------------------------------------------------- */

/* The jobs' calls take their bandwidth in a long, with a flag that says bytes. */
static int read_bandwidth(const struct lv_op *op, unsigned long *ret, struct failure *f)
{
	uint64_t bandwidth = vdict_t(op->r->options, "bandwidth", 0);

	if (bandwidth > ULONG_MAX)
		return failure_set(f, VIREO_INVALID_OPTION, "Option bandwidth is too large.");
	*ret = (unsigned long)bandwidth;
	return 0;
}

/* A disk may be called by what is behind it too; events and jobs know it by its target name only. */
static int find_disk(struct lv_op *op, struct failure *f)
{
	_cleanup_(freep) char *raw = virDomainGetXMLDesc(op->handle, 0), *xml = NULL;
	char *target;

	if (!raw)
		return lv_failure(f);
	xml = utf8_dup(raw);
	target = xml && op->r->text ? lv_xml_find_disk(xml, op->r->text) : NULL;
	if (!target)
		return failure_set(f, VIREO_NOT_FOUND, "The domain has no disk '%s'.", op->r->text ? op->r->text : "");
	/* nobody else looks at it before it is followed */
	free(op->r->text);
	op->r->text = target;
	return 0;
}

static int begun(struct lv_op *op, int r, struct failure *f)
{
	return r < 0 ? lv_failure(f) : lv_block_begun(op, f);
}

static int block_pull(struct lv_op *op, struct failure *f)
{
	const char *base = option(op, "base");
	unsigned long bandwidth;
	int r = read_bandwidth(op, &bandwidth, f);

	if (r != 0 || (r = find_disk(op, f)) != 0)
		return r;
	lv_follow(op, LV_FOLLOW_BLOCK, true);
	if (base)
		return begun(op,
			     virDomainBlockRebase(op->handle, op->r->text, base, bandwidth,
						  VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES),
			     f);
	return begun(op, virDomainBlockPull(op->handle, op->r->text, bandwidth, VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES), f);
}

static int block_commit(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"shallow", VIR_DOMAIN_BLOCK_COMMIT_SHALLOW},
		{"active", VIR_DOMAIN_BLOCK_COMMIT_ACTIVE},
		{"delete", VIR_DOMAIN_BLOCK_COMMIT_DELETE},
		{"relative", VIR_DOMAIN_BLOCK_COMMIT_RELATIVE},
		{0},
	};
	const char *base = option(op, "base"), *top = option(op, "top");
	unsigned flags = lv_flags(op, table) | VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES;
	unsigned long bandwidth;
	int r = read_bandwidth(op, &bandwidth, f);

	if (r != 0 || (r = find_disk(op, f)) != 0)
		return r;
	if (!top)
		flags |= VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
	lv_follow(op, LV_FOLLOW_BLOCK, true);
	return begun(op, virDomainBlockCommit(op->handle, op->r->text, base, top, bandwidth, flags), f);
}

static int block_copy(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"shallow", VIR_DOMAIN_BLOCK_COPY_SHALLOW},
		{"reuse-external", VIR_DOMAIN_BLOCK_COPY_REUSE_EXT},
		{"transient", VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB},
		{"synchronous-writes", VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES},
		{0},
	};
	_cleanup_(params_clear) struct params params = {0};
	uint32_t granularity = vdict_u(op->r->options, "granularity", 0);
	uint64_t bandwidth = vdict_t(op->r->options, "bandwidth", 0), buffer = vdict_t(op->r->options, "buffer-size", 0);
	int r = lv_xml_check(op->r->text2, "disk", f);

	if (r != 0 || (r = find_disk(op, f)) != 0)
		return r;
	if ((bandwidth > 0 && virTypedParamsAddULLong(&params.list, &params.n, &params.size, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH,
						      bandwidth) < 0) ||
	    (granularity > 0 && virTypedParamsAddUInt(&params.list, &params.n, &params.size,
						      VIR_DOMAIN_BLOCK_COPY_GRANULARITY, granularity) < 0) ||
	    (buffer > 0 && virTypedParamsAddULLong(&params.list, &params.n, &params.size, VIR_DOMAIN_BLOCK_COPY_BUF_SIZE,
						   buffer) < 0))
		return lv_failure(f);
	lv_follow(op, LV_FOLLOW_BLOCK, true);
	return begun(op,
		     virDomainBlockCopy(op->handle, op->r->text, op->r->text2, params.list, params.n, lv_flags(op, table)), f);
}

const struct lv_handler lv_job_handlers[OP_MAX] = {
	[OP_RESTORE_DOMAIN] = {restore, NULL, true},
	[OP_DOMAIN_SAVE] = {save, NULL, true},
	[OP_DOMAIN_MANAGED_SAVE] = {managed_save, NULL, true},
	[OP_DOMAIN_DUMP] = {dump, NULL, true},
	[OP_DOMAIN_MIGRATE] = {migrate, NULL, true},
	[OP_DOMAIN_BLOCK_PULL] = {block_pull},
	[OP_DOMAIN_BLOCK_COMMIT] = {block_commit},
	[OP_DOMAIN_BLOCK_COPY] = {block_copy},
};
