// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The records that the probes write and `decode.rs` reads. Sizes are pinned on both sides.
 *
 * Natural alignment, little room wasted, no packing. Every record starts with `struct record_header`.
 */
#ifndef HULLWATCH_EVENTS_H
#define HULLWATCH_EVENTS_H

/* The same as model::limits; a Rust test compares them. */
#define PATH_BYTES_MAX 4096
#define ARGV_BYTES_MAX (16 * 1024)
#define ENV_BYTES_MAX (8 * 1024)

/* Steps of one walk from a file to the root: path components plus mount crossings. Deeper paths are cut and flagged. */
#define WALK_STEPS_MAX 256

enum record_kind {
	RECORD_EXEC = 1,
	RECORD_FORK = 2,
	RECORD_EXIT = 3,
	/* A program was executed, or a library mapped, that may be gone before it is looked for. */
	RECORD_PROMPT = 4,
	RECORD_LOAD = 5,
	/* A program was executed whose arguments may name a script that may be gone before it is looked for. */
	RECORD_ARGUMENTS = 6,
};

struct record_header {
	u32 kind;
	/* Bytes of the whole record. */
	u32 length;
	/* CLOCK_BOOTTIME. */
	u64 time_ns;
	/* Start of the thread group leader, CLOCK_BOOTTIME. */
	u64 start_ns;
	u32 tgid;
	u32 mnt_namespace;
	u64 cgroup_id;
};

_Static_assert(sizeof(struct record_header) == 40, "record_header is 40 bytes");

struct fork_record {
	struct record_header header;
	u64 parent_start_ns;
	u32 parent_tgid;
	u32 pad;
};

_Static_assert(sizeof(struct fork_record) == 56, "fork_record is 56 bytes");

struct prompt_record {
	/* As of the exec or the load. */
	struct record_header header;
	/* Of the thread. */
	u32 tid;
	/* What it is mapping; -1 for an exec. */
	s32 descriptor;
};

_Static_assert(sizeof(struct prompt_record) == 48, "prompt_record is 48 bytes");

/* Bytes of the arguments, and of the working directory, that are told promptly. */
#define ARGUMENTS_BYTES_MAX 512
#define ARGUMENTS_CWD_BYTES_MAX 512
#define ARGUMENTS_CWD_TOO_LONG 0xffffffff

/* The standard input is a file. */
#define ARGUMENTS_INPUT (1 << 0)
/* The root is on a disk or in memory: nobody has to be waited for there but a disk. */
#define ARGUMENTS_LOCAL_ROOT (1 << 1)

struct arguments_record {
	/* As of the exec. */
	struct record_header header;
	/* Of the thread. */
	u32 tid;
	u32 flags;
	u32 argv_length;
	/* ARGUMENTS_CWD_TOO_LONG when it is. */
	u32 cwd_length;
	/* Both as in an exec record; what is behind their lengths is anything. */
	char argv[ARGUMENTS_BYTES_MAX];
	char cwd[ARGUMENTS_CWD_BYTES_MAX];
};

_Static_assert(sizeof(struct arguments_record) == 1080, "arguments_record is 1080 bytes");

/* What changes of a file when its bytes do. */
struct inode_stamp {
	u64 inode;
	u64 size;
	s64 mtime_sec;
	s64 ctime_sec;
	u32 mtime_nsec;
	u32 ctime_nsec;
};

/* What `stat` tells of a file. */
struct inode_facts {
	struct inode_stamp stamp;
	/* The kernel's dev_t: 12 bits major, 20 bits minor. */
	u32 device;
	u32 link_count;
	u32 mode;
	u32 mount_id;
};

_Static_assert(sizeof(struct inode_facts) == 56, "inode_facts is 56 bytes");

enum stdio_kind {
	STDIO_CLOSED = 0,
	STDIO_FILE = 1,
	STDIO_DEVICE = 2,
	STDIO_PIPE = 3,
	STDIO_SOCKET = 4,
	STDIO_OTHER = 5,
};

struct stdio_fact {
	u8 kind;
	u8 state;
	u16 family;
	/* Host order. */
	u16 local_port;
	/* Network order. */
	u16 peer_port;
	u64 inode;
	u8 local_address[16];
	u8 peer_address[16];
};

_Static_assert(sizeof(struct stdio_fact) == 48, "stdio_fact is 48 bytes");

#define EXEC_PATH_TRUNCATED (1 << 0)
#define EXEC_CWD_TRUNCATED (1 << 1)
#define EXEC_MEMFD (1 << 4)
/* linux_binprm.interp is not filename: a script or a binfmt_misc handler. */
#define EXEC_INTERPRETED (1 << 5)
/* A prompt record tells of the program, or of the script, too: it is being opened, or has been. */
#define EXEC_PROMPT (1 << 6)
#define EXEC_SCRIPT_PROMPT (1 << 7)
/* The file can be changed without a change of its times, as far as it is known. */
#define EXEC_UNSETTLED (1 << 8)
/* The times are those of the inode that has the bytes, on a filesystem that changes them with each change of the bytes. */
#define EXEC_STAMPED (1 << 9)
/* An arguments record tells of it, too: what they name is being opened, or has been. */
#define EXEC_ARGUMENTS (1 << 10)
/* User space has not said whether the program runs scripts. */
#define EXEC_UNCLASSIFIED (1 << 11)

/*
 * Followed by six byte strings without gaps, in the order of the length fields. Path, working directory and control
 * group path are the components from the leaf up, each ended by NUL. The file name is ended by NUL, and with EXEC_INTERPRETED
 * linux_binprm.interp is behind it, ended likewise. Arguments and environment are the memory of the new process as it is.
 */
struct exec_record {
	struct record_header header;
	u64 parent_start_ns;
	u32 parent_tgid;
	u32 pid_in_namespace;
	u32 flags;
	u32 uid, euid, gid, egid;
	u32 pid_namespace, net_namespace, user_namespace;
	u64 cap_effective;
	struct inode_facts file;
	/* What there was; the strings below may hold less. */
	u64 argv_bytes;
	u64 env_bytes;
	u32 argc;
	u32 envc;
	u32 path_length;
	u32 cwd_length;
	u32 cgroup_length;
	u32 filename_length;
	u32 argv_length;
	u32 env_length;
	char comm[16];
	char filesystem[16];
	struct stdio_fact stdio[3];
};

_Static_assert(sizeof(struct exec_record) == 376, "exec_record is 376 bytes");

#define LOAD_PATH_TRUNCATED (1 << 0)
#define LOAD_MEMFD (1 << 1)
/* User space has not said that it knows the file. */
#define LOAD_UNKNOWN (1 << 3)
/* A prompt record tells of it, too: it is being opened, or has been. */
#define LOAD_PROMPT (1 << 4)
/* As EXEC_UNSETTLED. */
#define LOAD_UNSETTLED (1 << 5)
/* As EXEC_STAMPED, of a load by an exec. */
#define LOAD_STAMPED (1 << 6)

/* A file was mapped executable. Followed by its path, as that of an exec. */
struct load_record {
	struct record_header header;
	u64 address_start;
	u64 address_end;
	struct inode_facts file;
	/* On an overlay that of the layer, which `stat` may tell for a file that was copied up; otherwise the same. */
	u64 real_inode;
	u32 flags;
	u32 path_length;
	char filesystem[16];
};

_Static_assert(sizeof(struct load_record) == 144, "load_record is 144 bytes");

/* What `counters` holds per CPU. */
struct counters {
	/* Execs that the probe took notice of: each is a record or a loss. */
	u64 execs;
	u64 exec_losses;
	/* Forks and exits likewise. */
	u64 process_events;
	u64 process_losses;
	/* Mappings likewise. */
	u64 loads;
	u64 load_losses;
	/* What a first program was skipped for and the second one was not: of the host, too. */
	u64 second_execs;
	u64 second_process_events;
};

/* A control group and mount namespace that user space found to be the host's. */
struct ignored_key {
	u64 cgroup_id;
	u32 mnt_namespace;
	u32 pad;
};

_Static_assert(sizeof(struct ignored_key) == 16, "ignored_key is 16 bytes");

/* A file that user space knows, as the probe saw it. */
struct known_key {
	struct inode_stamp stamp;
	u32 device;
	u32 pad;
};

_Static_assert(sizeof(struct known_key) == 48, "known_key is 48 bytes");

/* A program that fanotify does not tell of: the file whose stamp user space knows. */
struct untold_key {
	u64 inode;
	u32 device;
	u32 pad;
};

_Static_assert(sizeof(struct untold_key) == 16, "untold_key is 16 bytes");

#endif
