/*
 * Overwrites a file with another's bytes through a shared mapping: write-mapped FROM TO. On tmpfs none of its times changes: the
 * fault of a write sets them, and pages that were read are mapped to be written to without one.
 *
 * Both are of one size. Waits first: whoever maps the file shall have been looked at.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct stat from, to;
	int source, target;
	void *bytes, *mapped;

	if (argc != 3)
		return 1;
	usleep(300 * 1000);
	source = open(argv[1], O_RDONLY);
	target = open(argv[2], O_RDWR);
	if (source < 0 || target < 0 || fstat(source, &from) || fstat(target, &to) || from.st_size != to.st_size)
		return 2;
	bytes = mmap(NULL, from.st_size, PROT_READ, MAP_PRIVATE, source, 0);
	mapped = mmap(NULL, to.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, target, 0);
	if (bytes == MAP_FAILED || mapped == MAP_FAILED)
		return 3;
	for (off_t at = 0; at < to.st_size; at += 4096)
		(void)((volatile char *)mapped)[at];
	memcpy(mapped, bytes, from.st_size);
	return 0;
}
