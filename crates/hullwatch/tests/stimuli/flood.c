/*
 * Runs a program as fast as it goes: `flood PROGRAM SECONDS MIDDLE` prints how often. Half way through it runs MIDDLE once.
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void run(char *program)
{
	char *arguments[] = {program, NULL};
	int status;
	pid_t pid;

	if (posix_spawn(&pid, program, NULL, NULL, arguments, environ) || waitpid(pid, &status, 0) != pid || status) {
		perror(program);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	double begin = now(), seconds = argc > 3 ? atof(argv[2]) : 0;
	unsigned long count = 0;
	int is_half = 0;

	while (now() < begin + seconds) {
		run(argv[1]);
		count++;
		if (!is_half && now() > begin + seconds / 2) {
			run(argv[3]);
			is_half = 1;
		}
	}
	printf("%lu\n", count);
	return !is_half;
}
