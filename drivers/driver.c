/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

/* ---- words ------------------------------------------------------------------------------------------------ */

static const char *const kind_names[] = {
	[KIND_CONNECTION] = "connection",
	[KIND_DOMAIN] = "domain",
	[KIND_POOL] = "pool",
	[KIND_NETWORK] = "network",
	[KIND_JOB] = "job",
};
static_assert(ELEMENTS(kind_names) == KIND_MAX, "a word for each kind");

static const char *const domain_state_names[] = {
	[DOMAIN_NOSTATE] = "nostate",
	[DOMAIN_RUNNING] = "running",
	[DOMAIN_BLOCKED] = "blocked",
	[DOMAIN_PAUSED] = "paused",
	[DOMAIN_SHUTDOWN] = "shutdown",
	[DOMAIN_SHUTOFF] = "shutoff",
	[DOMAIN_CRASHED] = "crashed",
	[DOMAIN_PMSUSPENDED] = "pmsuspended",
};
static_assert(ELEMENTS(domain_state_names) == DOMAIN_STATE_MAX, "a word for each state");

static const char *const cause_names[] = {
	[CAUSE_NONE] = "",
	[CAUSE_DEFINED] = "Defined",
	[CAUSE_UNDEFINED] = "Undefined",
	[CAUSE_STARTED] = "Started",
	[CAUSE_SUSPENDED] = "Suspended",
	[CAUSE_RESUMED] = "Resumed",
	[CAUSE_PMSUSPENDED] = "PMSuspended",
	[CAUSE_CRASHED] = "Crashed",
	[CAUSE_SHUTDOWN] = "Shutdown",
	[CAUSE_STOPPED] = "Stopped",
	[CAUSE_OTHER] = "",
};
static_assert(ELEMENTS(cause_names) == CAUSE_MAX, "a word for each cause");

static int find_word(const char *const *words, size_t n, const char *s)
{
	if (!s)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (strcmp(words[i], s) == 0)
			return (int)i;
	return -EINVAL;
}

const char *kind_to_string(enum kind kind)
{
	return (unsigned)kind < KIND_MAX ? kind_names[kind] : "unknown";
}

int kind_from_string(const char *s)
{
	return find_word(kind_names, KIND_MAX, s);
}

const char *domain_state_to_string(enum domain_state state)
{
	return (unsigned)state < DOMAIN_STATE_MAX ? domain_state_names[state] : "nostate";
}

int domain_state_from_string(const char *s)
{
	return find_word(domain_state_names, DOMAIN_STATE_MAX, s);
}

const char *cause_to_string(enum cause cause)
{
	return (unsigned)cause < CAUSE_MAX ? cause_names[cause] : "";
}

/* ---- operations ------------------------------------------------------------------------------------------- */

#define ON_CONNECTION .kind = KIND_CONNECTION, .interface = "Connection"
#define ON_DOMAIN .kind = KIND_DOMAIN, .interface = "Domain"
#define ON_POOL .kind = KIND_POOL, .interface = "StoragePool"
#define ON_NETWORK .kind = KIND_NETWORK, .interface = "Network"

const struct operation_def operation_table[] = {
	[OP_NONE] = {.kind = KIND_MAX, .interface = "", .method = "", .name = ""},
	[OP_DEFINE_DOMAIN] = {ON_CONNECTION, .method = "DefineDomain", .name = "define-domain"},
	[OP_CREATE_DOMAIN] = {ON_CONNECTION, .method = "CreateDomain", .name = "create-domain"},
	[OP_RESTORE_DOMAIN] = {ON_CONNECTION, .method = "RestoreDomain", .name = "restore-domain"},
	[OP_DEFINE_POOL] = {ON_CONNECTION, .method = "DefinePool", .name = "define-pool"},
	[OP_CREATE_POOL] = {ON_CONNECTION, .method = "CreatePool", .name = "create-pool"},
	[OP_DEFINE_NETWORK] = {ON_CONNECTION, .method = "DefineNetwork", .name = "define-network"},
	[OP_CREATE_NETWORK] = {ON_CONNECTION, .method = "CreateNetwork", .name = "create-network"},

	[OP_DOMAIN_START] = {ON_DOMAIN, .method = "Start", .name = "start"},
	[OP_DOMAIN_SHUTDOWN] = {ON_DOMAIN, .method = "Shutdown", .name = "shutdown", .request = true},
	[OP_DOMAIN_REBOOT] = {ON_DOMAIN, .method = "Reboot", .name = "reboot", .request = true},
	[OP_DOMAIN_RESET] = {ON_DOMAIN, .method = "Reset", .name = "reset"},
	[OP_DOMAIN_DESTROY] = {ON_DOMAIN, .method = "Destroy", .name = "destroy", .overrides = true},
	[OP_DOMAIN_SUSPEND] = {ON_DOMAIN, .method = "Suspend", .name = "suspend"},
	[OP_DOMAIN_RESUME] = {ON_DOMAIN, .method = "Resume", .name = "resume"},
	[OP_DOMAIN_PMWAKEUP] = {ON_DOMAIN, .method = "PMWakeup", .name = "pm-wakeup"},
	[OP_DOMAIN_SAVE] = {ON_DOMAIN, .method = "Save", .name = "save"},
	[OP_DOMAIN_MANAGED_SAVE] = {ON_DOMAIN, .method = "ManagedSave", .name = "managed-save"},
	[OP_DOMAIN_MANAGED_SAVE_REMOVE] = {ON_DOMAIN, .method = "ManagedSaveRemove", .name = "managed-save-remove"},
	[OP_DOMAIN_DUMP] = {ON_DOMAIN, .method = "Dump", .name = "dump"},
	[OP_DOMAIN_UNDEFINE] = {ON_DOMAIN, .method = "Undefine", .name = "undefine"},
	[OP_DOMAIN_MIGRATE] = {ON_DOMAIN, .method = "Migrate", .name = "migrate"},
	[OP_DOMAIN_BLOCK_PULL] = {ON_DOMAIN, .method = "BlockPull", .name = "block-pull"},
	[OP_DOMAIN_BLOCK_COMMIT] = {ON_DOMAIN, .method = "BlockCommit", .name = "block-commit"},
	[OP_DOMAIN_BLOCK_COPY] = {ON_DOMAIN, .method = "BlockCopy", .name = "block-copy"},
	[OP_DOMAIN_SET_MEMORY] = {ON_DOMAIN, .method = "SetMemory", .name = "set-memory", .request = true},
	[OP_DOMAIN_SET_VCPUS] = {ON_DOMAIN, .method = "SetVCPUs", .name = "set-vcpus"},
	[OP_DOMAIN_SET_AUTOSTART] = {ON_DOMAIN, .method = "SetAutostart", .name = "set-autostart"},
	[OP_DOMAIN_RENAME] = {ON_DOMAIN, .method = "Rename", .name = "rename"},
	[OP_DOMAIN_ATTACH_DEVICE] = {ON_DOMAIN, .method = "AttachDevice", .name = "attach-device"},
	[OP_DOMAIN_DETACH_DEVICE] = {ON_DOMAIN, .method = "DetachDevice", .name = "detach-device", .request = true},
	[OP_DOMAIN_UPDATE_DEVICE] = {ON_DOMAIN, .method = "UpdateDevice", .name = "update-device"},
	[OP_DOMAIN_GET_XML] = {ON_DOMAIN, .method = "GetXML", .name = "get-xml", .read = true},

	[OP_POOL_START] = {ON_POOL, .method = "Start", .name = "start"},
	[OP_POOL_STOP] = {ON_POOL, .method = "Stop", .name = "stop"},
	[OP_POOL_BUILD] = {ON_POOL, .method = "Build", .name = "build"},
	[OP_POOL_REFRESH] = {ON_POOL, .method = "Refresh", .name = "refresh"},
	[OP_POOL_DELETE] = {ON_POOL, .method = "Delete", .name = "delete"},
	[OP_POOL_UNDEFINE] = {ON_POOL, .method = "Undefine", .name = "undefine"},
	[OP_POOL_SET_AUTOSTART] = {ON_POOL, .method = "SetAutostart", .name = "set-autostart"},
	[OP_POOL_GET_XML] = {ON_POOL, .method = "GetXML", .name = "get-xml", .read = true},
	[OP_POOL_LIST_VOLUMES] = {ON_POOL, .method = "ListVolumes", .name = "list-volumes", .read = true},
	[OP_POOL_CREATE_VOLUME] = {ON_POOL, .method = "CreateVolume", .name = "create-volume"},
	[OP_POOL_CLONE_VOLUME] = {ON_POOL, .method = "CloneVolume", .name = "clone-volume"},
	[OP_POOL_RESIZE_VOLUME] = {ON_POOL, .method = "ResizeVolume", .name = "resize-volume"},
	[OP_POOL_WIPE_VOLUME] = {ON_POOL, .method = "WipeVolume", .name = "wipe-volume"},
	[OP_POOL_DELETE_VOLUME] = {ON_POOL, .method = "DeleteVolume", .name = "delete-volume"},
	[OP_POOL_UPLOAD_VOLUME] = {ON_POOL, .method = "UploadVolume", .name = "upload-volume"},
	[OP_POOL_DOWNLOAD_VOLUME] = {ON_POOL, .method = "DownloadVolume", .name = "download-volume"},

	[OP_NETWORK_START] = {ON_NETWORK, .method = "Start", .name = "start"},
	[OP_NETWORK_STOP] = {ON_NETWORK, .method = "Stop", .name = "stop"},
	[OP_NETWORK_UNDEFINE] = {ON_NETWORK, .method = "Undefine", .name = "undefine"},
	[OP_NETWORK_SET_AUTOSTART] = {ON_NETWORK, .method = "SetAutostart", .name = "set-autostart"},
	[OP_NETWORK_GET_XML] = {ON_NETWORK, .method = "GetXML", .name = "get-xml", .read = true},

	[OP_FOREIGN_BACKUP] = {ON_DOMAIN, .method = "", .name = "backup"},
};
static_assert(ELEMENTS(operation_table) == OP_ALL, "an entry for each operation");

/* ---- requests --------------------------------------------------------------------------------------------- */

void request_free(struct request *r)
{
	if (!r)
		return;
	free(r->name);
	free(r->text);
	free(r->text2);
	/* A zeroed request that was never filled would close standard input. */
	if (r->fd > 2)
		close(r->fd);
	vdict_free(r->options);
	free(r);
}

/* ---- looks ------------------------------------------------------------------------------------------------ */

struct seen *seen_new(void)
{
	struct seen *s = calloc(1, sizeof(*s));

	if (s)
		s->id = -1;
	return s;
}

/* Every string of struct seen, so that freeing and copying can't forget one that the other knows. */
#define SEEN_STRINGS(s)                                                                                      \
	{                                                                                                    \
		&(s)->name, &(s)->state_reason, &(s)->title, &(s)->description, &(s)->os_type, &(s)->state_name, \
			&(s)->type, &(s)->bridge, &(s)->xml, &(s)->xml_inactive                              \
	}

void seen_free(struct seen *s)
{
	if (!s)
		return;

	char **strings[] = SEEN_STRINGS(s);

	for (size_t i = 0; i < ELEMENTS(strings); i++)
		free(*strings[i]);
	free(s);
}

struct seen *seen_copy(const struct seen *s)
{
	struct seen *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *s;

	char **strings[] = SEEN_STRINGS(copy);
	bool failed = false;

	for (size_t i = 0; i < ELEMENTS(strings); i++) {
		/* go on after a failure: what is not ours must not stay in the copy */
		if (*strings[i] && !(*strings[i] = strdup(*strings[i])))
			failed = true;
	}
	if (failed) {
		seen_free(copy);
		return NULL;
	}
	return copy;
}

/* ---- reports ---------------------------------------------------------------------------------------------- */

struct report *report_new(enum report_type type)
{
	struct report *r = calloc(1, sizeof(*r));

	if (r)
		r->type = type;
	return r;
}

static void strings_free(char **strings)
{
	if (!strings)
		return;
	for (char **s = strings; *s; s++)
		free(*s);
	free(strings);
}

void report_free(struct report *r)
{
	if (!r)
		return;
	switch (r->type) {
	case REPORT_HELLO:
		free(r->hello.hostname);
		free(r->hello.version);
		free(r->hello.same_key);
		strings_free(r->hello.events);
		strings_free(r->hello.operations);
		break;
	case REPORT_GOODBYE:
		free(r->goodbye.error);
		break;
	case REPORT_OBSERVATION:
		free(r->observation.name);
		free(r->observation.reason);
		free(r->observation.event);
		vdict_free(r->observation.details);
		seen_free(r->observation.seen);
		free(r->observation.error);
		break;
	case REPORT_LISTED:
		free(r->listed.error);
		break;
	case REPORT_PROGRESS:
		break;
	case REPORT_RESULT:
		failure_clear(&r->result.failure);
		free(r->result.text);
		for (size_t i = 0; i < r->result.n_volumes; i++) {
			free(r->result.volumes[i].name);
			free(r->result.volumes[i].path);
			free(r->result.volumes[i].type);
			free(r->result.volumes[i].format);
		}
		free(r->result.volumes);
		break;
	case REPORT_FOREIGN:
		free(r->foreign.subject);
		failure_clear(&r->foreign.failure);
		break;
	}
	driver_host_unref(r->host);
	free(r);
}
