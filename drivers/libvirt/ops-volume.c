/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <libxml/entities.h>
#include <errno.h>
#include <libvirt/virterror.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"
#include "jobs.h"
#include "util/utf8.h"
#include "xml.h"

/* Volumes of a pool. libvirt has no events and no jobs for them. */

/* What goes into a stream, or comes out, at a time; libvirt sends at most so much in one message. */
#define CHUNK (256u << 10)

/* How long a transfer waits for the other end of its descriptor before it asks whether it must end. */
#define PATIENCE_MSEC 200

static virStorageVolPtr find_volume(virStoragePoolPtr pool, const char *name, struct failure *f)
{
	virStorageVolPtr vol = virStorageVolLookupByName(pool, name);

	if (!vol)
		lv_failure(f);
	return vol;
}

static int finish_volume(virStorageVolPtr vol, int r, struct failure *f)
{
	r = lv_result(r, f);
	virStorageVolFree(vol);
	return r;
}

/* ---- create, clone, resize, wipe, delete ------------------------------------------------------------------- */

static int created(struct lv_op *op, virStorageVolPtr vol, struct failure *f)
{
	if (!vol)
		return lv_failure(f);
	op->report->result.text = utf8_dup(virStorageVolGetName(vol));
	virStorageVolFree(vol);
	return 0;
}

static int create_volume(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"prealloc-metadata", VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA},
		{"reflink", VIR_STORAGE_VOL_CREATE_REFLINK},
		{"validate", VIR_STORAGE_VOL_CREATE_VALIDATE},
		{0},
	};

	return created(op, virStorageVolCreateXML(op->handle, op->r->text, lv_flags(op, flags)), f);
}

/* The pool of the source: an object of the same connection, named by its path, which ends with the UUID. */
static virStoragePoolPtr find_source_pool(struct lv_op *op, struct failure *f)
{
	const char *path = vdict_s(op->r->options, "pool", NULL), *last;
	char text[SD_ID128_UUID_STRING_MAX];
	sd_id128_t uuid;
	virStoragePoolPtr pool;

	if (!path) {
		virStoragePoolRef(op->handle);
		return op->handle;
	}
	last = strrchr(path, '_') ? path + strlen(path) - strlen("_xxxxxxxx_xxxx_xxxx_xxxx_xxxxxxxxxxxx") : NULL;
	if (!last || last < path || *last != '_') {
		failure_set(f, VIREO_INVALID_OPTION, "Option pool: '%s' is not a pool's path.", path);
		return NULL;
	}
	snprintf(text, sizeof(text), "%s", last + 1);
	for (char *p = text; *p; p++)
		if (*p == '_')
			*p = '-';
	if (sd_id128_from_string(text, &uuid) < 0) {
		failure_set(f, VIREO_INVALID_OPTION, "Option pool: '%s' is not a pool's path.", path);
		return NULL;
	}
	pool = virStoragePoolLookupByUUID(virStoragePoolGetConnect(op->handle), uuid.bytes);
	if (!pool)
		lv_failure(f);
	return pool;
}

/* For text, and for attributes in double quotes. */
static char *escape(const char *s)
{
	return (char *)xmlEncodeSpecialChars(NULL, BAD_CAST s);
}

/* The new volume's description when none is given: format and size of the source. */
static char *describe_clone(const char *name, const struct volume *source)
{
	_cleanup_(freep) char *n = escape(name), *format = escape(source->format);
	char *xml;

	if (!n || !format ||
	    asprintf(&xml, "<volume><name>%s</name><capacity unit=\"bytes\">%llu</capacity><target>%s%s%s</target></volume>", n,
		     (unsigned long long)source->capacity, format[0] ? "<format type=\"" : "", format, format[0] ? "\"/>" : "") < 0)
		return NULL;
	return xml;
}

static void free_volume(struct volume *v)
{
	free(v->name);
	free(v->path);
	free(v->type);
	free(v->format);
}

static int clone_from(struct lv_op *op, virStorageVolPtr source, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"prealloc-metadata", VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA},
		{"reflink", VIR_STORAGE_VOL_CREATE_REFLINK},
		{0},
	};
	_cleanup_(free_volume) struct volume v = {0}, wanted = {0};
	_cleanup_(freep) char *raw = virStorageVolGetXMLDesc(source, 0), *source_xml = utf8_dup(raw), *xml = NULL;
	const char *given = vdict_s(op->r->options, "xml", NULL);
	int r;

	if (!raw)
		return lv_failure(f);
	if (!source_xml || lv_xml_read_volume(source_xml, &v) < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "The description of the source cannot be understood.");
	if (given) {
		r = lv_xml_check(given, "volume", f);
		if (r != 0)
			return r;
		if (lv_xml_read_volume(given, &wanted) < 0 || strcmp(wanted.name, op->r->text2) != 0)
			return failure_set(f, VIREO_INVALID_XML, "Option xml: its name is not '%s'.", op->r->text2);
		xml = strdup(given);
	} else
		xml = describe_clone(op->r->text2, &v);
	if (!xml)
		return failure_set(f, VIREO_NO_MEMORY, "No memory.");
	/* Only a format that grows while it is written shows how far it is. */
	if (v.format && strcmp(v.format, "raw") != 0 && v.format[0]) {
		op->volume = strdup(op->r->text2);
		atomic_store(&op->total, op->volume ? v.allocation : 0);
	}
	lv_follow(op, LV_FOLLOW_VOLUME, false);
	return created(op, virStorageVolCreateXMLFrom(op->handle, xml, source, lv_flags(op, flags)), f);
}

static int clone_volume(struct lv_op *op, struct failure *f)
{
	virStoragePoolPtr pool = find_source_pool(op, f);
	virStorageVolPtr source;
	int r;

	if (!pool)
		return f->error;
	source = find_volume(pool, op->r->text, f);
	r = source ? clone_from(op, source, f) : (int)f->error;
	if (source)
		virStorageVolFree(source);
	virStoragePoolFree(pool);
	return r;
}

static int resize_volume(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"allocate", VIR_STORAGE_VOL_RESIZE_ALLOCATE},
		{"shrink", VIR_STORAGE_VOL_RESIZE_SHRINK},
		{0},
	};
	virStorageVolPtr vol = find_volume(op->handle, op->r->text, f);

	return vol ? finish_volume(vol, virStorageVolResize(vol, op->r->number, lv_flags(op, flags)), f) : (int)f->error;
}

static int wipe_volume(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag algorithms[] = {
		{"zero", VIR_STORAGE_VOL_WIPE_ALG_ZERO},	   {"nnsa", VIR_STORAGE_VOL_WIPE_ALG_NNSA},
		{"dod", VIR_STORAGE_VOL_WIPE_ALG_DOD},		   {"bsi", VIR_STORAGE_VOL_WIPE_ALG_BSI},
		{"gutmann", VIR_STORAGE_VOL_WIPE_ALG_GUTMANN},	   {"schneier", VIR_STORAGE_VOL_WIPE_ALG_SCHNEIER},
		{"pfitzner7", VIR_STORAGE_VOL_WIPE_ALG_PFITZNER7}, {"pfitzner33", VIR_STORAGE_VOL_WIPE_ALG_PFITZNER33},
		{"random", VIR_STORAGE_VOL_WIPE_ALG_RANDOM},	   {"trim", VIR_STORAGE_VOL_WIPE_ALG_TRIM},
		{0},
	};
	const char *word = vdict_s(op->r->options, "algorithm", "zero");
	const struct lv_flag *a = algorithms;
	virStorageVolPtr vol;

	while (a->option && strcmp(a->option, word) != 0)
		a++;
	if (!a->option)
		return failure_set(f, VIREO_INVALID_OPTION, "Option algorithm: there is no '%s'.", word);
	vol = find_volume(op->handle, op->r->text, f);
	if (!vol)
		return f->error;
	lv_follow(op, LV_FOLLOW_VOLUME, false);
	return finish_volume(vol, a == algorithms ? virStorageVolWipe(vol, 0) : virStorageVolWipePattern(vol, a->flag, 0), f);
}

static int delete_volume(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"zeroed", VIR_STORAGE_VOL_DELETE_ZEROED},
		{"with-snapshots", VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS},
		{0},
	};
	virStorageVolPtr vol = find_volume(op->handle, op->r->text, f);

	return vol ? finish_volume(vol, virStorageVolDelete(vol, lv_flags(op, flags)), f) : (int)f->error;
}

/* ---- transfers -------------------------------------------------------------------------------------------- */

/* Wait until the client's end of the descriptor is ready. 0; CANCELLED when it must end; or what is wrong. */
static int wait_for(struct lv_op *op, short events, struct failure *f)
{
	for (;;) {
		struct pollfd p = {.fd = op->r->fd, .events = events};
		int n = poll(&p, 1, PATIENCE_MSEC);

		if (lv_must_end(op))
			return failure_set(f, VIREO_CANCELLED, "It was cancelled.");
		if (n < 0 && errno != EINTR)
			return failure_set(f, VIREO_OPERATION_FAILED, "The descriptor cannot be waited for: %m");
		if (n > 0)
			return 0;
	}
}

static int io_failed(const char *what, struct failure *f)
{
	return failure_set(f, VIREO_OPERATION_FAILED, "%s the descriptor failed: %m", what);
}

/* Where the descriptor stands, when it can be told: then it can have holes too. */
static off_t position(int fd)
{
	return lseek(fd, 0, SEEK_CUR);
}

/*
 * How much of the file is data from here on, and whether it is. Without SEEK_DATA all of it is.
 */
static bool next_extent(int fd, uint64_t most, uint64_t *ret_length)
{
	off_t here = position(fd), data = here < 0 ? -1 : lseek(fd, here, SEEK_DATA), hole;
	off_t end = here < 0 ? -1 : lseek(fd, 0, SEEK_END);

	*ret_length = most;
	if (here < 0)
		return true;
	if (data < 0) {
		/* nothing but a hole until the end, or no idea of holes */
		bool all_hole = errno == ENXIO && end > here;

		if (all_hole && (uint64_t)(end - here) < most)
			*ret_length = (uint64_t)(end - here);
		(void)lseek(fd, here, SEEK_SET);
		return !all_hole;
	}
	if (data > here) {
		if ((uint64_t)(data - here) < most)
			*ret_length = (uint64_t)(data - here);
		(void)lseek(fd, here, SEEK_SET);
		return false;
	}
	hole = lseek(fd, here, SEEK_HOLE);
	if (hole > here && (uint64_t)(hole - here) < most)
		*ret_length = (uint64_t)(hole - here);
	(void)lseek(fd, here, SEEK_SET);
	return true;
}

static int send_chunk(virStreamPtr stream, const char *data, size_t n, struct failure *f)
{
	while (n > 0) {
		int sent = virStreamSend(stream, data, n);

		if (sent < 0)
			return lv_failure(f);
		data += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* @left: bytes to send; UINT64_MAX until the end. */
static int upload_all(struct lv_op *op, virStreamPtr stream, uint64_t left, bool sparse, struct failure *f)
{
	_cleanup_(freep) char *buffer = malloc(CHUNK);

	if (!buffer)
		return failure_set(f, VIREO_NO_MEMORY, "No memory.");
	while (left > 0) {
		uint64_t extent = left;
		ssize_t n;
		int r;

		if (sparse && !next_extent(op->r->fd, left, &extent)) {
			if (virStreamSendHole(stream, (long long)extent, 0) < 0)
				return lv_failure(f);
			if (lseek(op->r->fd, (off_t)extent, SEEK_CUR) < 0)
				return io_failed("Reading from", f);
			atomic_fetch_add(&op->bytes, extent);
			left -= extent;
			continue;
		}
		r = wait_for(op, POLLIN, f);
		if (r != 0)
			return r;
		n = read(op->r->fd, buffer, extent < CHUNK ? (size_t)extent : CHUNK);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return io_failed("Reading from", f);
		if (n == 0) {
			if (left == UINT64_MAX - atomic_load(&op->bytes))
				return 0;
			return failure_set(f, VIREO_OPERATION_FAILED, "The data ended %llu bytes early.", (unsigned long long)left);
		}
		r = send_chunk(stream, buffer, (size_t)n, f);
		if (r != 0)
			return r;
		atomic_fetch_add(&op->bytes, (uint64_t)n);
		left -= (uint64_t)n;
	}
	return 0;
}

/*
 * Ready does not mean ready for all of it: a pipe may have room for no more than a page, and a write that waits for its
 * reader could not be cancelled. The descriptor is the client's, so whether it blocks is not ours to change.
 */
static ssize_t write_some(int fd, const char *data, size_t n)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	if (S_ISSOCK(st.st_mode))
		return send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && n > PIPE_BUF)
		n = PIPE_BUF;
	return write(fd, data, n);
}

static int write_chunk(struct lv_op *op, const char *data, size_t n, struct failure *f)
{
	while (n > 0) {
		int r = wait_for(op, POLLOUT, f);
		ssize_t written;

		if (r != 0)
			return r;
		written = write_some(op->r->fd, data, n);
		if (written < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (written < 0)
			return io_failed("Writing to", f);
		data += written;
		n -= (size_t)written;
	}
	return 0;
}

static int skip_hole(struct lv_op *op, long long length, struct failure *f)
{
	off_t end;

	end = lseek(op->r->fd, (off_t)length, SEEK_CUR);
	/* a hole at the end must be there too */
	if (end < 0 || ftruncate(op->r->fd, end) < 0)
		return io_failed("Making a hole in", f);
	return 0;
}

static int download_all(struct lv_op *op, virStreamPtr stream, bool sparse, struct failure *f)
{
	_cleanup_(freep) char *buffer = malloc(CHUNK);

	if (!buffer)
		return failure_set(f, VIREO_NO_MEMORY, "No memory.");
	for (;;) {
		int r, n = virStreamRecvFlags(stream, buffer, CHUNK, sparse ? VIR_STREAM_RECV_STOP_AT_HOLE : 0);
		long long hole = 0;

		if (n == -3) {
			if (virStreamRecvHole(stream, &hole, 0) < 0)
				return lv_failure(f);
			r = skip_hole(op, hole, f);
		} else if (n < 0)
			return lv_failure(f);
		else if (n == 0)
			return 0;
		else
			r = write_chunk(op, buffer, (size_t)n, f);
		if (r != 0)
			return r;
		if (lv_must_end(op))
			return failure_set(f, VIREO_CANCELLED, "It was cancelled.");
		atomic_fetch_add(&op->bytes, (uint64_t)(n > 0 ? n : hole));
	}
}

/* How much there will be to send, if that can be told. */
static uint64_t size_of_source(int fd)
{
	struct stat st;
	off_t here = position(fd);

	if (here < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < here)
		return 0;
	return (uint64_t)(st.st_size - here);
}

static int transfer(struct lv_op *op, bool upload, struct failure *f)
{
	uint64_t offset = vdict_t(op->r->options, "offset", 0), length = vdict_t(op->r->options, "length", 0), total = length;
	bool sparse = vdict_b(op->r->options, "sparse", false);
	virStorageVolPtr vol;
	virStreamPtr stream;
	virStorageVolInfo info;
	int r;

	if (op->r->fd < 0)
		return failure_set(f, VIREO_INVALID_ARGS, "There is no descriptor.");
	if (sparse && position(op->r->fd) < 0)
		return failure_set(f, VIREO_INVALID_OPTION, "Option sparse: the descriptor is not one that can have holes.");
	vol = find_volume(op->handle, op->r->text, f);
	if (!vol)
		return f->error;
	if (!upload && virStorageVolGetInfoFlags(vol, &info, VIR_STORAGE_VOL_GET_PHYSICAL) == 0 && info.allocation > offset &&
	    (total == 0 || info.allocation - offset < total))
		total = info.allocation - offset;
	else if (upload && total == 0)
		total = size_of_source(op->r->fd);
	atomic_store(&op->total, total);

	stream = virStreamNew(virStoragePoolGetConnect(op->handle), 0);
	if (!stream)
		r = -1;
	else if (upload)
		r = virStorageVolUpload(vol, stream, offset, length, sparse ? VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM : 0);
	else
		r = virStorageVolDownload(vol, stream, offset, length, sparse ? VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM : 0);
	r = lv_result(r, f);
	if (r == 0) {
		lv_follow(op, LV_FOLLOW_STREAM, true);
		r = upload ? upload_all(op, stream, length ? length : UINT64_MAX, sparse, f) : download_all(op, stream, sparse, f);
		if (r != 0)
			virStreamAbort(stream);
		else
			r = lv_result(virStreamFinish(stream), f);
	}
	if (stream)
		virStreamFree(stream);
	virStorageVolFree(vol);
	return r;
}

static int upload_volume(struct lv_op *op, struct failure *f)
{
	return transfer(op, true, f);
}

static int download_volume(struct lv_op *op, struct failure *f)
{
	return transfer(op, false, f);
}

const struct lv_handler lv_volume_handlers[OP_MAX] = {
	[OP_POOL_CREATE_VOLUME] = {create_volume, "volume", true},
	[OP_POOL_CLONE_VOLUME] = {clone_volume, NULL, true},
	[OP_POOL_RESIZE_VOLUME] = {resize_volume, NULL, true},
	[OP_POOL_WIPE_VOLUME] = {wipe_volume, NULL, true},
	[OP_POOL_DELETE_VOLUME] = {delete_volume, NULL, true},
	[OP_POOL_UPLOAD_VOLUME] = {upload_volume, NULL, true},
	[OP_POOL_DOWNLOAD_VOLUME] = {download_volume, NULL, true},
};
