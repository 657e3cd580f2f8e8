/*
 * Runs programs that leave no trace: `drop WAY SAMPLE COUNT [DIRECTORY]`.
 *
 * COUNT times, the bytes of SAMPLE followed by a number of four bytes (little endian, from 0) become a program that is run
 * and waited for. WAY says where it lives: `file` (written to DIRECTORY, run, deleted), `overwritten` (not deleted: other bytes
 * are written over it, and its times put back), `unlinked` (deleted before it is run, through its descriptor), `tmpfile`
 * (O_TMPFILE in DIRECTORY), `memfd`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int is_good, const char *what)
{
	if (!is_good) {
		perror(what);
		exit(1);
	}
}

static void overwrite(const char *path, off_t size)
{
	struct stat before;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd >= 0 && !fstat(fd, &before), "opening it again");
	check(pwrite(fd, "none", 4, size) == 4, "overwriting");
	struct timespec times[] = { before.st_atim, before.st_mtim };
	check(!futimens(fd, times), "putting its times back");
	close(fd);
}

int main(int argc, char **argv)
{
	static char sample[1 << 20];
	char path[4096] = "", link[64];
	check(argc >= 4, "usage: drop WAY SAMPLE COUNT [DIRECTORY]");
	const char *way = argv[1], *directory = argc > 4 ? argv[4] : ".";
	uint32_t count = strtoul(argv[3], NULL, 10);
	int from = open(argv[2], O_RDONLY | O_CLOEXEC);
	ssize_t size = read(from, sample, sizeof(sample));
	check(size > 0, argv[2]);

	for (uint32_t number = 0; number < count; number++) {
		int fd;
		snprintf(path, sizeof(path), "%s/dropped-%u", directory, number);
		if (!strcmp(way, "memfd"))
			fd = memfd_create("dropped", MFD_CLOEXEC);
		else if (!strcmp(way, "tmpfile"))
			fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0755);
		else
			fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755);
		check(fd >= 0, way);
		check(write(fd, sample, size) == size && write(fd, &number, 4) == 4, "write");
		int is_named = !strcmp(way, "file") || !strcmp(way, "overwritten");
		if (!is_named) {
			/* What is open for writing cannot be run: run it through a descriptor that only reads. */
			snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
			int reading = open(!strcmp(way, "unlinked") ? path : link, O_RDONLY | O_CLOEXEC);
			check(reading >= 0, "reopening");
			close(fd);
			fd = reading;
			snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		} else {
			close(fd);
			fd = -1;
		}
		if (!strcmp(way, "unlinked"))
			check(!unlink(path), "unlink");
		pid_t child = vfork();
		if (!child) {
			char *arguments[] = { "dropped", NULL };
			execv(fd < 0 ? path : link, arguments);
			_exit(127);
		}
		int status;
		check(waitpid(child, &status, 0) == child && !status, "running it");
		if (!strcmp(way, "overwritten"))
			overwrite(path, size);
		else if (fd < 0)
			check(!unlink(path), "unlink");
		else
			close(fd);
	}
	return 0;
}
