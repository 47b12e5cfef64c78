/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/*
 * Preloaded, this is a disk that hangs: as long as the file exists that VIREO_TEST_HANG names, nothing is synced, renamed or
 * listed. Whoever asks for that waits.
 */

static void hang(void)
{
	const char *file = getenv("VIREO_TEST_HANG");
	const struct timespec moment = {.tv_nsec = 10000000};

	while (file && access(file, F_OK) == 0)
		nanosleep(&moment, NULL);
}

int fsync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

	hang();
	return real(fd);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
	int (*real)(int, const char *, int, const char *, unsigned) =
		(int (*)(int, const char *, int, const char *, unsigned))dlsym(RTLD_NEXT, "renameat2");

	hang();
	return real(from, old, to, new, flags);
}

DIR *opendir(const char *path)
{
	DIR *(*real)(const char *) = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");

	hang();
	return real(path);
}
