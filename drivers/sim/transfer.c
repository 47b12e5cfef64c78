/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job.h"
#include "volume.h"

/*
 * Upload and download: a thread moves the bytes between a client's descriptor and what is in the volume. The client may take
 * its time, or never come.
 */

/* How long it waits for the client before it asks whether it has to end. */
#define PATIENCE_MSEC 100
#define CHUNK (256u << 10)

struct transfer {
	struct sim_world *world; /* which waits for the thread */
	struct sim_content *content;
	int fd;
	bool upload, sparse, is_pipe;
	uint64_t at, left; /* @left UINT64_MAX: until the end */
	uint64_t limit;	   /* the end of the volume */
	uint64_t room;	   /* for data, in all volumes */
	uint64_t duration, total, began;
	atomic_bool stop;

	/* the world's lock */
	struct sim_job *job; /* NULL: it is over */
	unsigned refs;
};

static void transfer_unref(struct transfer *t)
{
	if (--t->refs > 0)
		return;
	sim_content_unref(t->content);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

/* Locked; the job is over. */
static void forget(void *data)
{
	struct transfer *t = data;

	t->job = NULL;
	atomic_store(&t->stop, true);
	transfer_unref(t);
}

/* ---- the thread ---------------------------------------------------------------------------------------------- */

static int wait_for(struct transfer *t, short events, struct failure *f)
{
	for (;;) {
		struct pollfd p = {.fd = t->fd, .events = events};
		int n = poll(&p, 1, PATIENCE_MSEC);

		if (atomic_load(&t->stop))
			return failure_set(f, VIREO_CANCELLED, "The operation was cancelled.");
		if (n < 0 && errno != EINTR)
			return failure_set(f, VIREO_OPERATION_FAILED, "The descriptor cannot be waited for: %m");
		if (n > 0)
			return 0;
	}
}

static int io_failed(const char *what, struct failure *f)
{
	return failure_set(f, VIREO_OPERATION_FAILED, "%s failed: %m", what);
}

/* So much is done now; and not faster than it is to be. */
static int moved(struct transfer *t, uint64_t n, struct failure *f)
{
	uint64_t done = 0, due;

	pthread_mutex_lock(&t->world->lock);
	if (t->job)
		done = t->job->done += n;
	pthread_mutex_unlock(&t->world->lock);
	if (t->duration == 0 || t->total == 0)
		return 0;
	due = t->began + (uint64_t)((double)done / (double)t->total * (double)t->duration);
	while (!atomic_load(&t->stop) && sim_now() < due)
		(void)poll(NULL, 0, due - sim_now() > 20 * USEC_PER_MSEC ? 20 : 1);
	return atomic_load(&t->stop) ? failure_set(f, VIREO_CANCELLED, "The operation was cancelled.") : 0;
}

/*
 * What of @fd comes next, from @at on: data (true) or a hole, and how much. What knows of no holes is all data.
 */
static bool next_extent(int fd, uint64_t at, uint64_t most, uint64_t *ret_length)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), end;

	*ret_length = most;
	if (data < 0) {
		if (errno != ENXIO)
			return true;
		end = lseek(fd, 0, SEEK_END);
		if (end < 0 || (uint64_t)end <= at)
			return true; /* the end: reading it says so */
		if ((uint64_t)end - at < most)
			*ret_length = (uint64_t)end - at;
		return false;
	}
	end = (uint64_t)data > at ? data : lseek(fd, (off_t)at, SEEK_HOLE);
	if (end > 0 && (uint64_t)end > at && (uint64_t)end - at < most)
		*ret_length = (uint64_t)end - at;
	return (uint64_t)data == at;
}

static int write_content(struct transfer *t, const char *data, size_t n, struct failure *f)
{
	if (n > t->limit - t->at || n > t->room)
		return failure_set(f, VIREO_OPERATION_FAILED, "There is more than the volume has room for: No space left on device");
	t->room -= n;
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(t->content->fd, data + done, n - done, (off_t)(t->at + done));

		if (w < 0)
			return io_failed("Writing into the volume", f);
		done += (size_t)w;
	}
	t->at += n;
	return 0;
}

static int skip_into_content(struct transfer *t, uint64_t n, struct failure *f)
{
	struct stat st;

	if (n > t->limit - t->at)
		return failure_set(f, VIREO_OPERATION_FAILED, "There is more than the volume has room for: No space left on device");
	if (fallocate(t->content->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)t->at, (off_t)n) < 0 ||
	    fstat(t->content->fd, &st) < 0 ||
	    ((uint64_t)st.st_size < t->at + n && ftruncate(t->content->fd, (off_t)(t->at + n)) < 0))
		return io_failed("Making a hole in the volume", f);
	t->at += n;
	return 0;
}

static int upload(struct transfer *t, char *buffer, struct failure *f)
{
	while (t->left > 0) {
		uint64_t extent = t->left;
		off_t here = t->sparse ? lseek(t->fd, 0, SEEK_CUR) : -1;
		ssize_t n;
		int r;

		if (here >= 0 && !next_extent(t->fd, (uint64_t)here, t->left, &extent)) {
			r = skip_into_content(t, extent, f);
			if (r == 0 && lseek(t->fd, here + (off_t)extent, SEEK_SET) < 0)
				r = io_failed("Reading from the descriptor", f);
			if (r == 0)
				r = moved(t, extent, f);
			if (r != 0)
				return r;
			t->left -= t->left == UINT64_MAX ? 0 : extent;
			continue;
		}
		if (here >= 0 && lseek(t->fd, here, SEEK_SET) < 0)
			return io_failed("Reading from the descriptor", f);
		r = wait_for(t, POLLIN, f);
		if (r != 0)
			return r;
		n = read(t->fd, buffer, extent < CHUNK ? (size_t)extent : CHUNK);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return io_failed("Reading from the descriptor", f);
		if (n == 0)
			return t->left == UINT64_MAX ? 0
						     : failure_set(f, VIREO_OPERATION_FAILED, "The data ended %llu bytes early.",
								   (unsigned long long)t->left);
		r = write_content(t, buffer, (size_t)n, f);
		if (r == 0)
			r = moved(t, (uint64_t)n, f);
		if (r != 0)
			return r;
		t->left -= t->left == UINT64_MAX ? 0 : (uint64_t)n;
	}
	return 0;
}

static int write_out(struct transfer *t, const char *data, size_t n, struct failure *f)
{
	while (n > 0) {
		/* a pipe that has room has room for so much; more might block, and then nothing could end this */
		size_t most = t->is_pipe && n > 4096 ? 4096 : n;
		int r = wait_for(t, POLLOUT, f);
		ssize_t w;

		if (r != 0)
			return r;
		w = write(t->fd, data, most);
		if (w < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (w < 0)
			return io_failed("Writing to the descriptor", f);
		data += w;
		n -= (size_t)w;
	}
	return 0;
}

static int download(struct transfer *t, char *buffer, struct failure *f)
{
	while (t->left > 0) {
		uint64_t extent = t->left;
		bool is_data = !t->sparse || next_extent(t->content->fd, t->at, t->left, &extent);
		ssize_t n;
		int r;

		if (!is_data) {
			off_t end = lseek(t->fd, (off_t)extent, SEEK_CUR);

			/* a hole at the end must be there too */
			if (end < 0 || ftruncate(t->fd, end) < 0)
				return io_failed("Making a hole in the descriptor's file", f);
			n = (ssize_t)extent;
		} else {
			n = pread(t->content->fd, buffer, extent < CHUNK ? (size_t)extent : CHUNK, (off_t)t->at);
			if (n < 0)
				return io_failed("Reading from the volume", f);
			if (n == 0)
				/* it has become smaller meanwhile */
				return failure_set(f, VIREO_OPERATION_FAILED, "The volume ended %llu bytes early.",
						   (unsigned long long)t->left);
			r = write_out(t, buffer, (size_t)n, f);
			if (r != 0)
				return r;
		}
		t->at += (uint64_t)n;
		t->left -= (uint64_t)n;
		r = moved(t, (uint64_t)n, f);
		if (r != 0)
			return r;
	}
	return 0;
}

/* Locked: what it has now. */
static void count_allocation(struct sim_world *w, const struct transfer *t)
{
	struct sim_object *o = sim_object_find(&w->truth, KIND_POOL, t->job->request->uuid);
	struct sim_volume *v = o ? sim_object_volume(o, t->job->request->text) : NULL;
	struct stat st;

	if (v && v->content == t->content && fstat(t->content->fd, &st) == 0)
		sim_volume_allocate(o, v, (uint64_t)st.st_blocks * 512);
}

static void *transfer_thread(void *data)
{
	struct transfer *t = data;
	struct sim_world *w = t->world;
	struct failure f = {};
	char *buffer = sim_must(malloc(CHUNK));

	(void)(t->upload ? upload(t, buffer, &f) : download(t, buffer, &f));
	free(buffer);
	pthread_mutex_lock(&w->lock);
	if (t->job) {
		struct sim_job *j = t->job;

		if (t->upload)
			count_allocation(w, t);
		/* it was to end for another reason; or to fail, and was quicker */
		if (j->why.error != VIREO_OK) {
			failure_clear(&f);
			f = j->why;
			j->why = (struct failure){};
		}
		sim_job_over(w, j, &f);
	}
	failure_clear(&f);
	transfer_unref(t);
	w->threads--;
	sim_world_poke(w);
	pthread_mutex_unlock(&w->lock);
	sim_thread_ended();
	return NULL;
}

/* ---- the job ------------------------------------------------------------------------------------------------- */

/* How much a file still has. 0: that cannot be told. */
static uint64_t size_of_source(int fd)
{
	struct stat st;
	off_t here = lseek(fd, 0, SEEK_CUR);

	if (here < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < here)
		return 0;
	return (uint64_t)(st.st_size - here);
}

/* Raw ones are as long as their capacity, others as what they hold. */
static int open_content(struct transfer *t, struct sim_volume *v, uint64_t *ret_size, struct failure *f)
{
	bool raw = strcmp(v->format, "raw") == 0;
	struct stat st;
	int r = sim_volume_open(v, &t->content);

	if (r == 0 && (fstat(t->content->fd, &st) < 0 ||
		       (raw && (uint64_t)st.st_size < v->capacity && ftruncate(t->content->fd, (off_t)v->capacity) < 0)))
		r = -errno;
	if (r < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "Volume '%s' cannot be opened: %s", v->name, strerrordesc_np(-r));
	t->limit = raw ? v->capacity : INT64_MAX;
	*ret_size = raw ? v->capacity : (uint64_t)st.st_size;
	return 0;
}

static int prepare(struct sim_job *j, struct transfer *t, struct sim_volume *v, struct failure *f)
{
	const struct vdict *options = j->request->options;
	uint64_t length = vdict_t(options, "length", 0), size = 0;
	struct stat st;
	int r = open_content(t, v, &size, f);

	if (r != 0)
		return r;
	t->at = vdict_t(options, "offset", 0);
	t->sparse = vdict_b(options, "sparse", false);
	if (fstat(t->fd, &st) < 0)
		return failure_set(f, VIREO_INVALID_ARGS, "The descriptor cannot be used: %m");
	t->is_pipe = !S_ISREG(st.st_mode);
	if (t->sparse && lseek(t->fd, 0, SEEK_CUR) < 0)
		return failure_set(f, VIREO_INVALID_OPTION, "Option sparse: the descriptor is not one that can have holes.");
	if (t->at > t->limit)
		return failure_set(f, VIREO_INVALID_ARGS, "The offset %llu is behind the end of volume '%s'.",
				   (unsigned long long)t->at, v->name);
	if (t->upload) {
		t->left = length ? length : UINT64_MAX;
		j->total = length ? length : size_of_source(t->fd);
	} else {
		t->left = size > t->at ? size - t->at : 0;
		if (length > 0 && length < t->left)
			t->left = length;
		j->total = t->left;
	}
	return 0;
}

static int begin_transfer(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	struct sim_volume *v = NULL;
	struct transfer *t;
	int r = sim_volume_find(o, j->request->text, &v, f);

	if (r != 0)
		return r;
	if (j->request->fd < 0)
		return failure_set(f, VIREO_INVALID_ARGS, "There is no descriptor.");
	t = sim_new(struct transfer);
	t->world = w;
	t->upload = j->request->operation == OP_POOL_UPLOAD_VOLUME;
	t->fd = j->request->fd;
	j->request->fd = -1;
	t->refs = 1;
	atomic_init(&t->stop, false);
	t->room = sim_volumes_room(w);
	r = prepare(j, t, v, f);
	if (r == 0) {
		t->duration = j->duration == USEC_UNKNOWN ? 0 : j->duration;
		t->total = j->total ? j->total : w->rules[j->request->operation].total;
		t->began = sim_now();
		t->job = j;
		t->refs = 2;
		w->threads++;
		j->data = t;
		j->free_data = forget;
		j->held = j->counts = true;
		r = sim_thread(transfer_thread, t);
		if (r == 0)
			return 0;
		w->threads--;
		t->refs = 1;
		j->data = NULL;
		j->free_data = NULL;
		r = failure_set(f, VIREO_OPERATION_FAILED, "There is no thread for it: %s", strerrordesc_np(-r));
	}
	transfer_unref(t);
	return r;
}

static int stop_transfer(struct sim_world *w, struct sim_job *j)
{
	struct transfer *t = j->data;

	/* it ends when its thread has seen that */
	atomic_store(&t->stop, true);
	return SIM_GOES_ON;
}

const struct sim_course sim_upload_course = {
	.begin = begin_transfer,
	.stop = stop_transfer,
	.cancellable = true,
	.of_owner = true,
	.writes = true,
};

const struct sim_course sim_download_course = {
	.begin = begin_transfer,
	.stop = stop_transfer,
	.cancellable = true,
	.of_owner = true,
};
