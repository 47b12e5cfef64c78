/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/*
 * To be preloaded (LD_PRELOAD): how much processor time the main thread takes from one wait for events to the next. Wall time
 * would say how busy the machine is.
 *
 * VIREO_TURNS names a file, which is mapped: number of turns, the longest in ns, then how many took less than
 * 2^(i+1) µs. Whoever started this reads it, and may write zeros.
 */
struct turns {
	uint64_t n, longest;
	uint64_t below[30];
};

static struct turns *turns;
static uint64_t since;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("VIREO_TURNS");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *p = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, sizeof(struct turns)) == 0)
		p = mmap(NULL, sizeof(struct turns), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (p != MAP_FAILED)
		turns = p;
}

static void before(void)
{
	uint64_t took, i = 0;

	if (!turns || gettid() != getpid())
		return;
	took = since ? now() - since : 0;
	if (took == 0)
		return;
	turns->n++;
	if (took > turns->longest)
		turns->longest = took;
	while (i < 29 && took >= (uint64_t)2000 << i)
		i++;
	turns->below[i]++;
}

static void after(void)
{
	if (turns && gettid() == getpid())
		since = now();
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	static int (*real)(int, struct epoll_event *, int, int);
	int r;

	if (!real)
		real = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
	before();
	r = real(fd, events, max, timeout);
	after();
	return r;
}

/* What later versions of libsystemd call. */
int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	static int (*real)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
	int r;

	if (!real)
		real = (int (*)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *))dlsym(RTLD_NEXT,
														  "epoll_pwait2");
	before();
	r = real(fd, events, max, timeout, mask);
	after();
	return r;
}
