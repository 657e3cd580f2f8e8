/*
 * What the tests let run in a container. Static, without arguments a program that does nothing.
 *
 *   run N PROGRAM          execute PROGRAM N times
 *   drop N DIR             N times: write a new program (one that ends at once, plus its number), run it, delete it
 *   memfd N                N times: the same in a memfd, in the child itself
 *   fresh N DIR            N times: mount a tmpfs, write a program there and run it at once; in turns on DIR in a mount
 *                          namespace of its own, on DIR and unmounted before the program runs, and nowhere in the tree
 *   library WAY N DIR      N times, each in a process that ends at once: write a file, map it executable, and take it away. WAY
 *                          is where: `file` and `unlinked` (before it is mapped) in DIR, `chroot` in one to DIR, `fresh` on a
 *                          tmpfs that was just mounted there, `memfd`; or how: `mprotect` after mapping it for reading, `part` of a
 *                          mapping, `implied` by the personality, which `late` takes effect by mprotect; or by mmap to a `fixed`
 *                          place, so that it is `joined` with the page behind it, among `many` mappings, or as 32-bit programs
 *                          call it: mmap2 by `compat`, and mmap by `old`. A `segment` of shared memory is no file
 *   exec WAY N DIR         N times, each in a process: write a program to DIR and execute it. WAY is how: by another `thread`, in a
 *                          `chroot` to DIR; or what: a `compat` program, of 32 bits
 *   script WAY N DIR       N times, each in a process that ends at once: execute a script by its descriptor. WAY is where it is:
 *                          `memfd`, or `unlinked` in DIR; or `disguised`: it is called as the descriptor of another, on a
 *                          tmpfs that was just mounted on /dev/fd, and executed by that name
 *   named WAY N DIR        N times, each in a process that ends at once: write a file to DIR and execute what `delete`s it. WAY is how
 *                          that is told of it: by an `absolute` name, a `relative` one, a `link`, its `own` working directory, behind
 *                          an `option`; or, when it has no name any more, by its `descriptor`, or as the `input`
 *   delete FILE            delete FILE
 *   keep FILE              nothing
 *   crowd N LIBRARY        map LIBRARY executable N times side by side, and change the protection of all in one call
 *   map LIBRARY            map LIBRARY executable in a process that ends at once
 *   patched LIBRARY        change the last four bytes of LIBRARY, `map` it, and delete it
 *   changing WHAT DIR      write a `program` or a `script`, map it shared, and for each letter of standard input: change its last
 *                          four bytes to the next number by the mapping, and execute it (`p`) or `map` it (`l`)
 *   familiar CHANGES DIR   write a program and run it for a quarter of a second, by its number as name; CHANGES times: change
 *                          its last four bytes to the next number, in turns by a write and by a mapping, and run it again; then
 *                          once more while it is mapped for writing. In the end run scripts that it interprets, one for each change
 *   number WAY N FILE      the last four bytes of FILE become N: WAY is `append`, or `map` what is there and write over it
 *   then SCRIPT            as the interpreter of SCRIPT: execute SCRIPT-next
 *   unlinked DIR           write a program, delete it, execute it by its descriptor
 *   memfd-wait             execute a memfd that waits for its standard input to end
 *   socket PROGRAM ARG...  execute PROGRAM in a child with a connected TCP socket as standard input, a pipe as output
 *   wait                   wait for the standard input to end
 *   deep LIBRARY           copy LIBRARY to a directory whose path is longer than the kernel tells, map it there, `wait`
 *   leaderless LIBRARY     end the first thread; in another, map LIBRARY after a line of standard input, and `wait`
 *   hold                   until the standard input ends: hold the CPU for a millisecond, and let go of it for one
 *   mount DIR              when nothing has happened for a while: mount a tmpfs on DIR, and wait again
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char self[4 << 20];
static size_t self_bytes;

/* A whole ELF file for x86-64: `mov $60, %eax; xor %edi, %edi; syscall`, which is exit(0). */
static const unsigned char nothing[] = {
	0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 0, 62, 0, 1, 0, 0, 0, 0x78, 0, 0x40, 0, 0, 0, 0, 0,
	64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0,
	0x81, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0,
	0, 0x10, 0, 0, 0, 0, 0, 0,
	0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05,
};

/* The same for i386: `mov $1, %eax; xor %ebx, %ebx; int $0x80`. */
static const unsigned char nothing_compat[] = {
	0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 0x04, 0x08, 52, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x04, 0x08, 0, 0x80, 0x04, 0x08,
	0x5d, 0, 0, 0, 0x5d, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0,
	0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80,
};

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void read_self(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	ssize_t count;

	check(fd >= 0, "open /proc/self/exe");
	while ((count = read(fd, self + self_bytes, sizeof(self) - self_bytes)) > 0)
		self_bytes += count;
	close(fd);
}

static void write_program(int fd, const void *program, size_t bytes, int number)
{
	check(write(fd, program, bytes) == (ssize_t)bytes, "write");
	check(write(fd, &number, sizeof(number)) == sizeof(number), "write");
}

static void run(char *path, char **argv)
{
	pid_t pid;
	int status;

	check(posix_spawn(&pid, path, NULL, NULL, argv, environ) == 0, path);
	check(waitpid(pid, &status, 0) == pid && status == 0, "program");
}

static int memfd(const void *program, size_t bytes, int number)
{
	int fd = syscall(SYS_memfd_create, "innocent", MFD_CLOEXEC);

	check(fd >= 0, "memfd_create");
	write_program(fd, program, bytes, number);
	return fd;
}

static void in_memfds(int count)
{
	char *argv[] = {"m", NULL};
	int status;

	for (int i = 0; i < count; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			syscall(SYS_execveat, memfd(nothing, sizeof(nothing), i), "", argv, environ, AT_EMPTY_PATH);
			_exit(1);
		}
		check(waitpid(pid, &status, 0) == pid && status == 0, "memfd program");
	}
}

static void drop(int count, const char *dir)
{
	char path[256];
	char *argv[] = {path, NULL};

	for (int i = 0; i < count; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/dropped-%d", dir, i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
		check(fd >= 0, path);
		write_program(fd, nothing, sizeof(nothing), i);
		close(fd);
		run(path, argv);
		unlink(path);
	}
}

static void run_fresh(int number, const char *dir)
{
	char *argv[] = {"fresh", NULL};
	int root, fd;

	if (number % 3 == 2) {
		int context = fsopen("tmpfs", FSOPEN_CLOEXEC);

		check(context >= 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0, "fsconfig");
		root = fsmount(context, FSMOUNT_CLOEXEC, 0);
	} else {
		if (number % 3 == 0) {
			check(unshare(CLONE_NEWNS) == 0, "unshare");
			check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
		}
		check(mount("t", dir, "tmpfs", 0, "") == 0, dir);
		root = open(dir, O_PATH | O_CLOEXEC);
		if (number % 3 == 1)
			check(umount2(dir, MNT_DETACH) == 0, "umount");
	}
	check(root >= 0, "a root");
	fd = openat(root, "program", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	check(fd >= 0, "program");
	write_program(fd, nothing, sizeof(nothing), number);
	close(fd);
	syscall(SYS_execveat, root, "program", argv, environ, 0);
	check(0, "execveat");
}

static void fresh(int count, const char *dir)
{
	int status;

	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == 0)
			run_fresh(i, dir);
		check(waitpid(pid, &status, 0) == pid && status == 0, "fresh program");
	}
}

/* A system call by the numbers of 32-bit programs. The sixth argument is 0. */
static long compat_call(long number, long b, long c, long d, long si, long di)
{
	int result;

	asm volatile("mov %%rbp, %%r12; xor %%ebp, %%ebp; int $0x80; mov %%r12, %%rbp"
		     : "=a"(result)
		     : "a"(number), "b"(b), "c"(c), "d"(d), "S"(si), "D"(di)
		     : "memory", "r8", "r9", "r10", "r11", "r12");
	return result;
}

/* Maps a file executable in one of the less usual ways. Returns 0 when that is none of them. */
static int map_as(const char *way, int fd)
{
	const int code = PROT_READ | PROT_EXEC, many = 1000;
	char *room;

	if (!strcmp(way, "compat")) {
		long address = compat_call(192, 0, 4096, code, MAP_PRIVATE, fd);

		check((address & 0xfff) == 0, "mmap2");
		return 1;
	}
	room = mmap(NULL, 2 * many * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	check(room != MAP_FAILED, "room");
	if (!strcmp(way, "old")) {
		unsigned *arguments = (void *)room;
		const unsigned values[] = {0, 4096, code, MAP_PRIVATE, fd, 0};

		check(mprotect(room, 4096, PROT_READ | PROT_WRITE) == 0, "arguments");
		memcpy(arguments, values, sizeof(values));
		check((compat_call(90, (long)arguments, 0, 0, 0, 0) & 0xfff) == 0, "old mmap");
	} else if (!strcmp(way, "fixed")) {
		check(mmap(room + 4096, 4096, code, MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED, way);
	} else if (!strcmp(way, "joined")) {
		munmap(room, 2 * many * 4096);
		check(mmap(room + 4096, 4096, code, MAP_PRIVATE | MAP_FIXED, fd, 4096) != MAP_FAILED, way);
		/* Not MAP_FIXED: the place is a wish. */
		check(mmap(room, 4096, code, MAP_PRIVATE, fd, 0) == room, way);
	} else if (!strcmp(way, "many")) {
		for (int i = 0; i < many; i++)
			check(mprotect(room + i * 8192, 4096, PROT_READ) == 0, way);
		check(mmap(NULL, 4096, code, MAP_PRIVATE, fd, 0) != MAP_FAILED, way);
	} else {
		return 0;
	}
	return 1;
}

static void map_segment(void)
{
	int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);

	check(segment >= 0 && shmat(segment, NULL, SHM_EXEC) != (void *)-1, "shmat");
	shmctl(segment, IPC_RMID, NULL);
	_exit(0);
}

static void load(const char *way, int number, const char *dir)
{
	char path[256];
	char *address;
	int fd, is_part = !strcmp(way, "part"), is_late = !strcmp(way, "late");
	int by_mprotect = is_part || is_late || !strcmp(way, "mprotect");

	if (!strcmp(way, "segment"))
		map_segment();
	snprintf(path, sizeof(path), "%s/library-%d", dir, number);
	if (!strcmp(way, "fresh")) {
		check(unshare(CLONE_NEWNS) == 0, "unshare");
		check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
		check(mount("t", dir, "tmpfs", 0, "") == 0, dir);
	} else if (!strcmp(way, "chroot")) {
		check(chroot(dir) == 0, "chroot");
		snprintf(path, sizeof(path), "/library-%d", number);
	}
	/* On an overlay each mapping has a file of its own, and is joined with no other. */
	if (!strcmp(way, "memfd") || !strcmp(way, "joined")) {
		fd = memfd(nothing, sizeof(nothing), number);
	} else {
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
		check(fd >= 0, path);
		write_program(fd, nothing, sizeof(nothing), number);
	}
	if (!strcmp(way, "unlinked"))
		unlink(path);
	if (map_as(way, fd)) {
		unlink(path);
		_exit(0);
	}
	if (!strcmp(way, "implied"))
		check(personality(READ_IMPLIES_EXEC) == 0, "personality");
	address = mmap(NULL, is_part ? 3 * 4096 : 4096,
		       is_late ? PROT_NONE : by_mprotect || !strcmp(way, "implied") ? PROT_READ : PROT_READ | PROT_EXEC,
		       MAP_PRIVATE, fd, 0);
	check(address != MAP_FAILED, "mmap");
	if (is_late)
		check(personality(READ_IMPLIES_EXEC) == 0, "personality");
	if (by_mprotect)
		check(mprotect(address + (is_part ? 4096 : 0), 4096, is_late ? PROT_READ : PROT_READ | PROT_EXEC) == 0,
		      "mprotect");
	if (!by_mprotect)
		unlink(path);
	_exit(0);
}

static void *execute(void *path)
{
	char *argv[] = {"executed", NULL};

	execv(path, argv);
	check(0, path);
	return NULL;
}

static void execute_by(const char *way, int number, const char *dir)
{
	int is_compat = !strcmp(way, "compat"), fd;
	pthread_t thread;
	char path[256];

	if (!strcmp(way, "chroot")) {
		check(chroot(dir) == 0, "chroot");
		dir = "";
	}
	snprintf(path, sizeof(path), "%s/program-%d", dir, number);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	check(fd >= 0, path);
	write_program(fd, is_compat ? nothing_compat : nothing, is_compat ? sizeof(nothing_compat) : sizeof(nothing), number);
	close(fd);
	if (!strcmp(way, "thread")) {
		check(pthread_create(&thread, NULL, execute, path) == 0, "a thread");
		pause();
	}
	execute(path);
}

static void disguised_script(int number)
{
	static const char text[] = "#!/bin/true\n";
	int other = syscall(SYS_memfd_create, "innocent", 0), fd;
	char path[64];
	char *argv[] = {path, NULL};

	check(other >= 0, "the other");
	write_program(other, text, sizeof(text) - 1, -1);
	snprintf(path, sizeof(path), "/dev/fd/%d", other);
	/* runc makes a link of it. */
	unlink("/dev/fd");
	mkdir("/dev/fd", 0755);
	check(unshare(CLONE_NEWNS) == 0 && mount("t", "/dev/fd", "tmpfs", 0, "") == 0, "a mount");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0755);
	check(fd >= 0, path);
	write_program(fd, text, sizeof(text) - 1, number);
	close(fd);
	execv(path, argv);
	_exit(1);
}

static void script(const char *way, int number, const char *dir)
{
	static const char text[] = "#!/bin/true\n";
	char *argv[] = {"script", NULL};
	char path[256];
	int fd;

	if (!strcmp(way, "disguised"))
		disguised_script(number);
	/* The kernel refuses a script whose descriptor would be closed before its interpreter can open it. */
	fd = syscall(SYS_memfd_create, "innocent", 0);
	if (!strcmp(way, "unlinked")) {
		snprintf(path, sizeof(path), "%s/script-%d", dir, number);
		close(fd);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0755);
	}
	check(fd >= 0, way);
	write_program(fd, text, sizeof(text) - 1, number);
	if (!strcmp(way, "unlinked")) {
		close(fd);
		fd = open(path, O_RDONLY);
		unlink(path);
	}
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
	_exit(1);
}

/* `act` ends its process by exit code 0. */
static void in_children(void (*act)(const char *, int, const char *), char **argv)
{
	int status, count = atoi(argv[3]);

	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == 0)
			act(argv[2], i, argv[4]);
		check(waitpid(pid, &status, 0) == pid && status == 0, argv[1]);
	}
}

static void named(const char *way, int number, const char *dir)
{
	char path[256], own[300];
	char *argv[] = {"s", "delete", path, NULL, NULL};
	int fd;

	snprintf(path, sizeof(path), "%s/named-%d", dir, number);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
	check(fd >= 0 && write(fd, &number, sizeof(number)) == sizeof(number), path);
	if (!strcmp(way, "relative")) {
		check(chdir(dir) == 0, dir);
		argv[2] = strrchr(path, '/') + 1;
	} else if (!strcmp(way, "own")) {
		check(chdir(dir) == 0, dir);
		snprintf(own, sizeof(own), "/proc/self/cwd%s", strrchr(path, '/'));
		argv[2] = own;
	} else if (!strcmp(way, "link")) {
		check(chdir("/") == 0 && symlink(path, "link") == 0, "link");
		argv[2] = "mnt/../link";
	} else if (!strcmp(way, "descriptor")) {
		check(unlink(path) == 0 && dup2(fd, 9) == 9, path);
		argv[1] = "keep";
		argv[2] = "/dev/fd/9";
	} else if (!strcmp(way, "option")) {
		argv[2] = "--option";
		argv[3] = path;
	} else if (!strcmp(way, "input")) {
		check(unlink(path) == 0 && dup2(fd, 0) == 0, path);
		argv[1] = NULL;
	}
	close(fd);
	execv("/stimulus/s", argv);
	check(0, "exec");
}

static void map_in_child(const char *library)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open(library, O_RDONLY);

		check(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED, library);
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid && status == 0, "library");
}

static void crowd(size_t count, const char *library)
{
	int fd = open(library, O_RDONLY);
	char *room = mmap(NULL, count * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(fd >= 0 && room != MAP_FAILED, library);
	for (size_t i = 0; i < count; i++)
		check(mmap(room + i * 4096, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED, library);
	check(mprotect(room, count * 4096, PROT_READ | PROT_EXEC) == 0, "mprotect");
}

static void patched(const char *library)
{
	int number = 7, fd;

	fd = open(library, O_WRONLY);
	check(fd >= 0 && lseek(fd, -(off_t)sizeof(number), SEEK_END) > 0, library);
	check(write(fd, &number, sizeof(number)) == sizeof(number), "write");
	close(fd);
	map_in_child(library);
	unlink(library);
}

/* Its page stays mapped when the descriptor is closed. */
static char *map_shared(int fd)
{
	char *address = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(address != MAP_FAILED, "mmap");
	return address;
}

/* The times of the file tell of the first change, and no longer of the others, as long as the page is not written to disk. */
static void changing(const char *what, const char *dir)
{
	static const char script[sizeof(nothing)] = "#!/bin/true\n";
	const void *head = strcmp(what, "script") ? (const void *)nothing : script;
	char path[256], letter;
	char *argv[] = {path, NULL};
	int fd, number = 0;
	char *address;
	struct stat stat;
	struct timespec now;

	snprintf(path, sizeof(path), "%s/changing", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	check(fd >= 0, path);
	write_program(fd, head, sizeof(nothing), number);
	address = map_shared(fd);
	memcpy(address + sizeof(nothing), &number, sizeof(number));
	check(fstat(fd, &stat) == 0, "stat");
	/* What is open for writing is not executed; what is mapped is, on an overlay. */
	close(fd);
	/* A file that has just changed is read each time. */
	do {
		usleep(1000);
		clock_gettime(CLOCK_REALTIME, &now);
	} while ((now.tv_sec - stat.st_ctim.tv_sec) * 1000 + (now.tv_nsec - stat.st_ctim.tv_nsec) / 1000000 < 300);
	while (read(0, &letter, 1) == 1) {
		if (letter != 'p' && letter != 'l')
			continue;
		number++;
		memcpy(address + sizeof(nothing), &number, sizeof(number));
		if (letter == 'p')
			run(path, argv);
		else
			map_in_child(path);
	}
}

static void run_for_a_while(char *path, int number)
{
	char text[16];
	/* Without an argument, so that nobody looks for what it may name. */
	char *argv[] = {text, NULL};
	struct timespec start, now;
	void *address;
	int fd;

	snprintf(text, sizeof(text), "%d", number);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		run(path, argv);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < 250);
	fd = open(path, O_RDWR | O_CLOEXEC);
	check(fd >= 0, path);
	address = map_shared(fd);
	close(fd);
	run(path, argv);
	munmap(address, 4096);
}

static void familiar(int changes, const char *dir)
{
	char path[256], script[300], text[300];
	char *argv[] = {script, NULL};
	int fd;

	snprintf(path, sizeof(path), "%s/familiar", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	check(fd >= 0, path);
	write_program(fd, nothing, sizeof(nothing), 0);
	close(fd);
	run_for_a_while(path, 0);
	for (int number = 1; number <= changes; number++) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		check(fd >= 0, path);
		if (number % 2) {
			check(pwrite(fd, &number, sizeof(number), sizeof(nothing)) == sizeof(number), "pwrite");
		} else {
			char *address = map_shared(fd);

			memcpy(address + sizeof(nothing), &number, sizeof(number));
			munmap(address, 4096);
		}
		close(fd);
		run_for_a_while(path, number);
	}
	snprintf(text, sizeof(text), "#!%s\n", path);
	for (int number = 0; number < changes; number++) {
		snprintf(script, sizeof(script), "%s/script-%d", dir, number);
		fd = open(script, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
		check(fd >= 0, script);
		write_program(fd, text, strlen(text), number);
		close(fd);
		run(script, argv);
	}
}

static void number(const char *way, int number, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t end = lseek(fd, 0, SEEK_END);
	char *address;

	check(end > 0, path);
	if (!strcmp(way, "append")) {
		check(write(fd, &number, sizeof(number)) == sizeof(number), "write");
		return;
	}
	address = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(address != MAP_FAILED, "mmap");
	memcpy(address + end - sizeof(number), &number, sizeof(number));
}

static void unlinked(const char *dir)
{
	char path[256];
	char *argv[] = {"gone", NULL};
	int fd;

	snprintf(path, sizeof(path), "%s/unlinked", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	check(fd >= 0, path);
	write_program(fd, nothing, sizeof(nothing), 7);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	unlink(path);
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
	check(0, "execveat");
}

static void with_socket(char **argv)
{
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(4444)};
	struct sockaddr_in client = {.sin_family = AF_INET, .sin_port = htons(5555)};
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	int ends[2], status;
	pid_t pid;

	server.sin_addr.s_addr = client.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "lo");
	check(bind(listener, (void *)&server, sizeof(server)) == 0 && listen(listener, 1) == 0, "listen");
	check(bind(fd, (void *)&client, sizeof(client)) == 0, "bind");
	check(connect(fd, (void *)&server, sizeof(server)) == 0 && pipe(ends) == 0, "connect");
	pid = fork();
	if (pid == 0) {
		char *environment[] = {"PATH=/bin", "EMPTY=", "SECRET=a=b", NULL};

		dup2(fd, 0);
		dup2(ends[1], 1);
		close(2);
		execve(argv[0], argv, environment);
		_exit(1);
	}
	check(waitpid(pid, &status, 0) == pid && status == 0, argv[0]);
}

static void wait_for_end_of_input(void)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
}

static void hold_cpu(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	while (!poll(&input, 1, 1)) {
		struct timespec start, now;

		clock_gettime(CLOCK_MONOTONIC, &start);
		do
			clock_gettime(CLOCK_MONOTONIC, &now);
		while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < 1000000);
	}
}

static void deep(const char *library)
{
	static char bytes[4 << 20];
	char name[251];
	int from = open(library, O_RDONLY), to;
	ssize_t count = read(from, bytes, sizeof(bytes));

	check(count > 0, library);
	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	for (int i = 0; i < 20; i++)
		check(mkdir(name, 0755) == 0 && chdir(name) == 0, "a deep directory");
	to = open("library.so", O_RDWR | O_CREAT | O_EXCL, 0755);
	check(to >= 0 && write(to, bytes, count) == count, "library.so");
	check(mmap(NULL, count, PROT_READ | PROT_EXEC, MAP_PRIVATE, to, 0) != MAP_FAILED, "mmap");
	wait_for_end_of_input();
}

/* Whether the first thread has ended, as proc_pid_stat(5) has it. */
static int is_leader_gone(void)
{
	char path[32], stat[512];
	ssize_t count;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", getpid());
	fd = open(path, O_RDONLY);
	count = read(fd, stat, sizeof(stat) - 1);
	check(count > 0, path);
	close(fd);
	stat[count] = 0;
	return strstr(stat, ") Z ") != NULL;
}

static void *without_leader(void *library)
{
	char byte = 0;
	int fd;

	while (!is_leader_gone())
		usleep(1000);
	while (byte != '\n')
		check(read(0, &byte, 1) == 1, "a line");
	fd = open(library, O_RDONLY);
	check(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED, library);
	wait_for_end_of_input();
	exit(0);
}

int main(int argc, char **argv)
{
	char *mode = argc > 1 ? argv[1] : "";

	read_self();
	if (!strcmp(mode, "run")) {
		for (int i = 0; i < atoi(argv[2]); i++)
			run(argv[3], argv + 3);
	} else if (!strcmp(mode, "drop")) {
		drop(atoi(argv[2]), argv[3]);
	} else if (!strcmp(mode, "memfd")) {
		in_memfds(atoi(argv[2]));
	} else if (!strcmp(mode, "memfd-wait")) {
		char *arguments[] = {"m", "wait", NULL};

		syscall(SYS_execveat, memfd(self, self_bytes, 1), "", arguments, environ, AT_EMPTY_PATH);
	} else if (!strcmp(mode, "fresh")) {
		fresh(atoi(argv[2]), argv[3]);
	} else if (!strcmp(mode, "library")) {
		in_children(load, argv);
	} else if (!strcmp(mode, "exec")) {
		in_children(execute_by, argv);
	} else if (!strcmp(mode, "script")) {
		in_children(script, argv);
	} else if (!strcmp(mode, "named")) {
		in_children(named, argv);
	} else if (!strcmp(mode, "keep")) {
		return 0;
	} else if (!strcmp(mode, "delete")) {
		check(unlink(argv[argc - 1]) == 0, argv[argc - 1]);
	} else if (!strcmp(mode, "map")) {
		map_in_child(argv[2]);
	} else if (!strcmp(mode, "crowd")) {
		crowd(atoi(argv[2]), argv[3]);
	} else if (!strcmp(mode, "patched")) {
		patched(argv[2]);
	} else if (!strcmp(mode, "changing")) {
		changing(argv[2], argv[3]);
	} else if (!strcmp(mode, "then")) {
		char next[256];
		char *arguments[] = {next, NULL};

		snprintf(next, sizeof(next), "%s-next", argv[2]);
		execv(next, arguments);
		check(0, next);
	} else if (!strcmp(mode, "familiar")) {
		familiar(atoi(argv[2]), argv[3]);
	} else if (!strcmp(mode, "number")) {
		number(argv[2], atoi(argv[3]), argv[4]);
	} else if (!strcmp(mode, "unlinked")) {
		unlinked(argv[2]);
	} else if (!strcmp(mode, "socket")) {
		with_socket(argv + 2);
	} else if (!strcmp(mode, "wait")) {
		wait_for_end_of_input();
	} else if (!strcmp(mode, "deep")) {
		deep(argv[2]);
	} else if (!strcmp(mode, "leaderless")) {
		pthread_t thread;

		check(pthread_create(&thread, NULL, without_leader, argv[2]) == 0, "a thread");
		pthread_exit(NULL);
	} else if (!strcmp(mode, "hold")) {
		hold_cpu();
	} else if (!strcmp(mode, "mount")) {
		usleep(300000);
		check(mount("t", argv[2], "tmpfs", 0, "") == 0, "mount");
		usleep(300000);
	}
	return 0;
}
