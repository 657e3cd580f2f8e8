/*
 * A FUSE filesystem whose one file can be opened once: `fuse-once DIRECTORY PROGRAM`.
 *
 * Mounts it on DIRECTORY, with the bytes of PROGRAM as `program`, prints "ready" and serves it until it is killed. The first
 * open is answered; the ones after it wait until then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM_INODE 2

static char program[1 << 20];
static ssize_t program_size;
static int server;

static void check(int is_good, const char *what)
{
	if (!is_good) {
		perror(what);
		exit(1);
	}
}

static void answer(const struct fuse_in_header *request, int error, const void *body, size_t size)
{
	static char out[sizeof(struct fuse_out_header) + sizeof(program)];
	struct fuse_out_header header = {
		.len = sizeof(header) + size,
		.error = error,
		.unique = request->unique,
	};
	memcpy(out, &header, sizeof(header));
	memcpy(out + sizeof(header), body, size);
	/* Fails when whoever asked is gone. */
	if (write(server, out, header.len) < 0 && errno != ENOENT)
		check(0, "answering");
}

static struct fuse_attr attributes(uint64_t inode)
{
	return (struct fuse_attr){
		.ino = inode,
		.size = inode == PROGRAM_INODE ? program_size : 0,
		.mode = inode == PROGRAM_INODE ? S_IFREG | 0755 : S_IFDIR | 0755,
		.nlink = 1,
	};
}

int main(int argc, char **argv)
{
	static char in[FUSE_MIN_READ_BUFFER + sizeof(program)];
	const struct fuse_in_header *request = (void *)in;
	const void *body = in + sizeof(*request);
	char options[100];
	int opened = 0;

	check(argc == 3, "usage: fuse-once DIRECTORY PROGRAM");
	int from = open(argv[2], O_RDONLY | O_CLOEXEC);
	program_size = read(from, program, sizeof(program));
	check(program_size > 0, argv[2]);
	server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	check(server >= 0, "/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", server);
	check(!mount("once", argv[1], "fuse", MS_NOSUID | MS_NODEV, options), "mount");
	puts("ready");
	fflush(stdout);

	while (read(server, in, sizeof(in)) > 0) {
		switch (request->opcode) {
		case FUSE_INIT: {
			struct fuse_init_out out = { .major = 7, .minor = 31, .max_write = 4096 };
			answer(request, 0, &out, sizeof(out));
			break;
		}
		case FUSE_LOOKUP: {
			struct fuse_entry_out out = { .nodeid = PROGRAM_INODE, .attr = attributes(PROGRAM_INODE) };
			int is_there = !strcmp(body, "program");
			answer(request, is_there ? 0 : -ENOENT, &out, is_there ? sizeof(out) : 0);
			break;
		}
		case FUSE_GETATTR: {
			struct fuse_attr_out out = { .attr = attributes(request->nodeid) };
			answer(request, 0, &out, sizeof(out));
			break;
		}
		case FUSE_OPEN: {
			struct fuse_open_out out = { 0 };
			if (!opened++)
				answer(request, 0, &out, sizeof(out));
			break;
		}
		case FUSE_READ: {
			const struct fuse_read_in *wanted = body;
			uint64_t start = wanted->offset < program_size ? wanted->offset : program_size;
			uint64_t size = program_size - start < wanted->size ? program_size - start : wanted->size;
			answer(request, 0, program + start, size);
			break;
		}
		case FUSE_STATFS: {
			struct fuse_statfs_out out = { .st = { .bsize = 4096, .namelen = 255 } };
			answer(request, 0, &out, sizeof(out));
			break;
		}
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		case FUSE_FLUSH:
		case FUSE_RELEASE:
			answer(request, 0, NULL, 0);
			break;
		default:
			answer(request, -ENOSYS, NULL, 0);
		}
	}
	return 0;
}
