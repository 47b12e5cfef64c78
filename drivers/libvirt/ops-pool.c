/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ops.h"

#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "util/utf8.h"
#include "xml.h"

/* What is done with pools and networks in one call. */

static const struct lv_flag create_flags[] = {
	{"build", VIR_STORAGE_POOL_CREATE_WITH_BUILD},
	{"overwrite", VIR_STORAGE_POOL_CREATE_WITH_BUILD_OVERWRITE},
	{"no-overwrite", VIR_STORAGE_POOL_CREATE_WITH_BUILD_NO_OVERWRITE},
	{0},
};

static int define_pool(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {{"validate", VIR_STORAGE_POOL_DEFINE_VALIDATE}, {0}};

	return lv_result_object(op, KIND_POOL, virStoragePoolDefineXML(op->c->ops, op->r->text, lv_flags(op, flags)), f);
}

static int create_pool(struct lv_op *op, struct failure *f)
{
	return lv_result_object(op, KIND_POOL,
				virStoragePoolCreateXML(op->c->ops, op->r->text, lv_flags(op, create_flags)), f);
}

static int start_pool(struct lv_op *op, struct failure *f)
{
	return lv_result(virStoragePoolCreate(op->handle, lv_flags(op, create_flags)), f);
}

static int stop_pool(struct lv_op *op, struct failure *f)
{
	return lv_result(virStoragePoolDestroy(op->handle), f);
}

static int build_pool(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"repair", VIR_STORAGE_POOL_BUILD_REPAIR},
		{"resize", VIR_STORAGE_POOL_BUILD_RESIZE},
		{"overwrite", VIR_STORAGE_POOL_BUILD_OVERWRITE},
		{"no-overwrite", VIR_STORAGE_POOL_BUILD_NO_OVERWRITE},
		{0},
	};

	return lv_result(virStoragePoolBuild(op->handle, lv_flags(op, flags)), f);
}

static int refresh_pool(struct lv_op *op, struct failure *f)
{
	return lv_result(virStoragePoolRefresh(op->handle, 0), f);
}

static int delete_pool(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {{"zeroed", VIR_STORAGE_POOL_DELETE_ZEROED}, {0}};

	return lv_result(virStoragePoolDelete(op->handle, lv_flags(op, flags)), f);
}

static int undefine_pool(struct lv_op *op, struct failure *f)
{
	return lv_result(virStoragePoolUndefine(op->handle), f);
}

static int autostart_pool(struct lv_op *op, struct failure *f)
{
	return lv_result(virStoragePoolSetAutostart(op->handle, op->r->flag), f);
}

static int get_pool_xml(struct lv_op *op, struct failure *f)
{
	/* Pools have no secrets in their XML: those are referred to. */
	static const struct lv_flag flags[] = {{"inactive", VIR_STORAGE_XML_INACTIVE}, {0}};

	return lv_result_text(op, virStoragePoolGetXMLDesc(op->handle, lv_flags(op, flags)), f);
}

static int compare_volumes(const void *a, const void *b)
{
	return strcmp(((const struct volume *)a)->name, ((const struct volume *)b)->name);
}

/* Volumes have no events, and may go while they are listed: what cannot be read is left out. */
static int list_volumes(struct lv_op *op, struct failure *f)
{
	struct result *r = &op->report->result;
	virStorageVolPtr *vols = NULL;
	int n;

	n = virStoragePoolListAllVolumes(op->handle, &vols, 0);
	if (n < 0)
		return lv_failure(f);
	r->volumes = calloc((size_t)n + 1, sizeof(*r->volumes));
	for (int i = 0; i < n; i++) {
		_cleanup_(freep) char *raw = r->volumes ? virStorageVolGetXMLDesc(vols[i], 0) : NULL;
		_cleanup_(freep) char *xml = utf8_dup(raw);

		if (xml && lv_xml_read_volume(xml, &r->volumes[r->n_volumes]) == 0)
			r->n_volumes++;
		virStorageVolFree(vols[i]);
	}
	free(vols);
	if (!r->volumes)
		return failure_set(f, VIREO_NO_MEMORY, "No memory.");
	qsort(r->volumes, r->n_volumes, sizeof(*r->volumes), compare_volumes);
	return 0;
}

static int define_network(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {{"validate", VIR_NETWORK_DEFINE_VALIDATE}, {0}};
	unsigned flags = lv_flags(op, table);

	return lv_result_object(op, KIND_NETWORK,
				flags ? virNetworkDefineXMLFlags(op->c->ops, op->r->text, flags) :
					virNetworkDefineXML(op->c->ops, op->r->text),
				f);
}

static int create_network(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {{"validate", VIR_NETWORK_CREATE_VALIDATE}, {0}};
	unsigned flags = lv_flags(op, table);

	return lv_result_object(op, KIND_NETWORK,
				flags ? virNetworkCreateXMLFlags(op->c->ops, op->r->text, flags) :
					virNetworkCreateXML(op->c->ops, op->r->text),
				f);
}

static int start_network(struct lv_op *op, struct failure *f)
{
	return lv_result(virNetworkCreate(op->handle), f);
}

static int stop_network(struct lv_op *op, struct failure *f)
{
	return lv_result(virNetworkDestroy(op->handle), f);
}

static int undefine_network(struct lv_op *op, struct failure *f)
{
	return lv_result(virNetworkUndefine(op->handle), f);
}

static int autostart_network(struct lv_op *op, struct failure *f)
{
	return lv_result(virNetworkSetAutostart(op->handle, op->r->flag), f);
}

static int get_network_xml(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {{"inactive", VIR_NETWORK_XML_INACTIVE}, {0}};

	return lv_result_text(op, virNetworkGetXMLDesc(op->handle, lv_flags(op, flags)), f);
}

const struct lv_handler lv_pool_handlers[OP_MAX] = {
	[OP_DEFINE_POOL] = {define_pool, "pool"},
	[OP_CREATE_POOL] = {create_pool, "pool"},
	[OP_DEFINE_NETWORK] = {define_network, "network"},
	[OP_CREATE_NETWORK] = {create_network, "network"},
	[OP_POOL_START] = {start_pool},
	[OP_POOL_STOP] = {stop_pool},
	[OP_POOL_BUILD] = {build_pool, NULL, true},
	[OP_POOL_REFRESH] = {refresh_pool, NULL, true},
	[OP_POOL_DELETE] = {delete_pool, NULL, true},
	[OP_POOL_UNDEFINE] = {undefine_pool},
	[OP_POOL_SET_AUTOSTART] = {autostart_pool},
	[OP_POOL_GET_XML] = {get_pool_xml},
	[OP_POOL_LIST_VOLUMES] = {list_volumes},
	[OP_NETWORK_START] = {start_network},
	[OP_NETWORK_STOP] = {stop_network},
	[OP_NETWORK_UNDEFINE] = {undefine_network},
	[OP_NETWORK_SET_AUTOSTART] = {autostart_network},
	[OP_NETWORK_GET_XML] = {get_network_xml},
};
