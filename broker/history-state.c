/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history-private.h"

/*
 * vireo.state: a few numbers that must survive what the database doesn't.
 *
 * It is apart from the database because it is written when the database can't be: its blocks are there from the
 * beginning and are written over in place, so that versions can be reserved, and a loss noted, while the disk is full.
 * There are two slots, each in one sector of a page of its own, and they are written in turn: a write that was cut
 * short spoils one of them, and the other is still whole. The file is also what the lock is on.
 */

#define SLOT_SPACING 4096
#define SLOTS 2

struct slot {
	char magic[8];
	uint64_t serial;
	uint64_t reserved;
	uint64_t version;
	uint64_t opened;
	uint32_t flags;
	char epoch[33];
	char boot[40];
	uint8_t hash[32]; /* of all before it */
} __attribute__((packed));
static_assert(sizeof(struct slot) <= 512, "a slot is written whole or not at all");

static const char slot_magic[8] = {'V', 'I', 'R', 'E', 'O', 'S', 'T', '1'};

struct state_file {
	int fd;
	pthread_mutex_t lock;
	struct state_values values;
	uint64_t serial;
};

static void slot_hash(const struct slot *slot, uint8_t ret[32])
{
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, (const uint8_t *)slot, offsetof(struct slot, hash));
	SHA256Final(ret, &ctx);
}

static int write_whole(int fd, const void *data, size_t n, off_t at)
{
	ssize_t r;

	do
		r = pwrite(fd, data, n, at);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return (size_t)r == n ? 0 : -ENOSPC;
}

/* Under the lock. */
static int write_slot(struct state_file *s)
{
	struct slot slot = {
		.serial = s->serial + 1,
		.reserved = s->values.reserved,
		.version = s->values.version,
		.opened = s->values.opened,
		.flags = s->values.flags,
	};
	int r;

	memcpy(slot.magic, slot_magic, sizeof(slot_magic));
	memcpy(slot.epoch, s->values.epoch, sizeof(slot.epoch));
	memcpy(slot.boot, s->values.boot, sizeof(slot.boot));
	slot_hash(&slot, slot.hash);
	r = write_whole(s->fd, &slot, sizeof(slot), (off_t)(slot.serial % SLOTS) * SLOT_SPACING);
	if (r == 0)
		s->serial = slot.serial;
	return r;
}

static int sync_file(struct state_file *s)
{
	int r;

	do
		r = fdatasync(s->fd);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int state_write(struct state_file *s, const struct state_values *v, bool durable)
{
	int r;

	pthread_mutex_lock(&s->lock);
	s->values = *v;
	r = write_slot(s);
	pthread_mutex_unlock(&s->lock);
	return r == 0 && durable ? sync_file(s) : r;
}

void state_get(struct state_file *s, struct state_values *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = s->values;
	pthread_mutex_unlock(&s->lock);
}

int state_reserve(struct state_file *s, uint64_t upto)
{
	int r;

	pthread_mutex_lock(&s->lock);
	s->values.reserved = upto;
	r = write_slot(s);
	pthread_mutex_unlock(&s->lock);
	/* Outside of the lock: the main thread may have a flag to set, and mustn't wait for the disk. */
	return r == 0 ? sync_file(s) : r;
}

int state_flags(struct state_file *s, uint32_t set, uint32_t clear)
{
	int r;

	pthread_mutex_lock(&s->lock);
	s->values.flags = (s->values.flags | set) & ~clear;
	r = write_slot(s);
	pthread_mutex_unlock(&s->lock);
	return r;
}

int state_commit(struct state_file *s, uint64_t version)
{
	int r;

	pthread_mutex_lock(&s->lock);
	s->values.version = version;
	r = write_slot(s);
	pthread_mutex_unlock(&s->lock);
	return r;
}

static bool read_slot(int fd, unsigned i, struct slot *ret)
{
	uint8_t hash[32];

	if (pread(fd, ret, sizeof(*ret), (off_t)i * SLOT_SPACING) != (ssize_t)sizeof(*ret))
		return false;
	slot_hash(ret, hash);
	return memcmp(ret->magic, slot_magic, sizeof(slot_magic)) == 0 && memcmp(hash, ret->hash, sizeof(hash)) == 0 &&
		ret->epoch[sizeof(ret->epoch) - 1] == '\0' && ret->boot[sizeof(ret->boot) - 1] == '\0';
}

static enum state_found read_slots(struct state_file *s)
{
	struct stat st;
	bool found = false;

	if (fstat(s->fd, &st) < 0)
		return STATE_INVALID;
	if (st.st_size == 0)
		return STATE_NONE;
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot slot;

		if (!read_slot(s->fd, i, &slot) || (found && slot.serial <= s->serial))
			continue;
		found = true;
		s->serial = slot.serial;
		s->values = (struct state_values){
			.reserved = slot.reserved,
			.version = slot.version,
			.opened = slot.opened,
			.flags = slot.flags,
		};
		memcpy(s->values.epoch, slot.epoch, sizeof(slot.epoch));
		memcpy(s->values.boot, slot.boot, sizeof(slot.boot));
	}
	return found ? STATE_VALID : STATE_INVALID;
}

/* So that later writes need no new block. */
static int make_room(struct state_file *s)
{
	static const char zeros[SLOT_SPACING * SLOTS];

	return write_whole(s->fd, zeros, sizeof(zeros), 0);
}

/* Every directory on the way; 0700, because XML tells about a host what others shouldn't know. */
static int make_directory(const char *directory)
{
	_cleanup_(freep) char *path = strdup(directory);

	if (!path)
		return -ENOMEM;
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int cannot(struct failure *f, const char *what, const char *path, int error)
{
	switch (error) {
	case ENOSPC:
	case EDQUOT:
		return failure_set(f, VIREO_OPERATION_FAILED,
				   "cannot %s %s: %s. Free some space there, or choose another place with "
				   "--state-directory",
				   what, path, strerror(error));
	case EACCES:
	case EPERM:
	case EROFS:
		return failure_set(f, VIREO_OPERATION_FAILED,
				   "cannot %s %s: %s. It must be writable for the user that vireod runs as; or choose "
				   "another place with --state-directory",
				   what, path, strerror(error));
	default:
		return failure_set(f, VIREO_OPERATION_FAILED, "cannot %s %s: %s. --state-directory chooses another place",
				   what, path, strerror(error));
	}
}

int state_open(const char *directory, enum state_found *ret_found, struct state_values *ret_values,
	       struct state_file **ret, struct failure *f)
{
	_cleanup_(state_closep) struct state_file *s = NULL;
	_cleanup_(freep) char *path = NULL;
	int r;

	r = make_directory(directory);
	if (r < 0)
		return cannot(f, "make the state directory", directory, -r);
	if (asprintf(&path, "%s/vireo.state", directory) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return cannot(f, "open", path, errno);
	if (flock(s->fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return cannot(f, "lock", path, errno);
		return failure_set(f, VIREO_BUSY,
				   "another vireod uses the state directory %s; each needs one of its own "
				   "(--state-directory)",
				   directory);
	}
	*ret_found = read_slots(s);
	if (*ret_found != STATE_VALID) {
		r = make_room(s);
		if (r < 0)
			return cannot(f, "write", path, -r);
	}
	*ret_values = s->values;
	*ret = TAKE(s);
	return 0;
}

void state_close(struct state_file *s)
{
	if (!s)
		return;
	/* Closing gives the lock back. */
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
