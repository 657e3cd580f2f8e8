// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Exec, fork and exit. Compiled twice: for every kernel, and for those since 6.14, with library loads (`loads.h`).
 *
 * The probes collect, user space judges. The one decision made here is to say nothing about a (control group, mount
 * namespace) pair that user space declared to be the host's.
 */
#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "events.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ANON_INODE_FS_MAGIC 0x09041934

/* "/dev/fd/", as the bytes stand in memory. */
#define DEV_FD 0x2f64662f7665642fULL

/* The longest number of a descriptor. */
#define DESCRIPTOR_DIGITS_MAX 10

/* Bytes of a program's name in its arguments that are looked through for its end. */
#define NAME_LOOKED_AT_MAX 64

/* KERNEL_VERSION of linux/version.h. */
#define LINUX_6_5 0x060500

#define AF_INET 2
#define AF_INET6 10

#define NAME_BYTES_MAX 256

/* BINPRM_BUF_SIZE of include/uapi/linux/binfmts.h: what the kernel reads of a script. */
#define INTERPRETER_BYTES_MAX 256

/*
 * Three walked paths, the file name, the interpreter's, arguments, environment; a power of two above, so that an offset can be
 * masked.
 */
#define STRING_BYTES_MAX (4 * PATH_BYTES_MAX + INTERPRETER_BYTES_MAX + ARGV_BYTES_MAX + ENV_BYTES_MAX)
#define STRING_OFFSET_MASK 0xffff
_Static_assert(STRING_BYTES_MAX <= STRING_OFFSET_MASK, "every offset of a string fits the mask");

/* One walk from a dentry up to a root. Addresses are numbers: they are only ever read through. */
struct walk {
	u64 dentry;
	u64 mount;
	u64 root_dentry;
	u64 root_mount;
	/* Where the next name goes in `scratch.strings`, and the first offset that the walk may not use. */
	u32 offset;
	u32 end;
	u32 truncated;
};

/* What is left of a range of addresses that is looked through for what is mapped executable there. */
struct range {
	u64 start;
	u64 end;
	/* Only mappings of so many bytes, if not 0. */
	u64 length;
	u64 found;
};

struct scratch {
	struct walk walk;
	struct range range;
	/* Of a node of the tree of mappings. */
	u64 pivots[16];
	u64 slots[16];
	struct exec_record record;
	union {
		/* The masked offset plus the largest single copy stays inside. */
		char strings[STRING_OFFSET_MASK + 1 + ARGV_BYTES_MAX];
		/* Its path is behind it. */
		struct load_record load;
	};
};

/*
 * One per possible CPU, sized before load. Not a per-CPU map: those hold at most 32 KiB a CPU. Nothing else runs the
 * exec probe on this CPU at the same time: programs do not migrate, and the kernel refuses to re-enter a tracing program
 * on a CPU (and counts that as a missed run, which user space adds to the losses). For the other programs see `keep_cpu`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* All sized before load. Execs have a ring of their own, so that a storm of forks cannot crowd them out; loads likewise. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} exec_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} process_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} load_ring SEC(".maps");

struct prompt_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/*
 * Files that may be gone before they are looked for are told of a second time, by a ring and to a reader of each CPU; sized
 * and filled by user space. The reader that is woken is bound to the CPU that the exec runs on and goes before it: it has
 * opened the program before its first instruction. See `prompt.rs`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct prompt_ring);
} prompt_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ignored_key);
	__type(value, u8);
} ignored SEC(".maps");

/* Whether programs run scripts that their arguments name, by what user space has found in their bytes: 1, or 0. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct known_key);
	__type(value, u8);
} runs_scripts SEC(".maps");

/* 1 while the reader sleeps until it is woken. While it naps (3 ms) it looks by itself and waking it would be waste. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} reader_asleep SEC(".maps");

/* libbpf sets it. */
extern int LINUX_KERNEL_VERSION __kconfig;

static __always_inline struct counters *own_counters(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

#include "preemption.h"

/* The mount namespace of the host, set before loading; 0 when it is not known. */
const volatile u32 host_mnt_namespace = 0;

#include "files.h"

/*
 * Writes a record, and only then looks whether the reader sleeps: it says that it does and then looks at the ring, so one of
 * the two sees the other, however long this CPU is held up in between. Waking it takes a record of its own, which is
 * discarded; a ring that fills wakes by its records. Returns 0 or, when the ring is full, an error.
 */
static __always_inline long emit(void *ring, void *record, u64 length, u64 ring_bytes_urgent)
{
	bool is_urgent = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > ring_bytes_urgent;
	long failed = bpf_ringbuf_output(ring, record, length, is_urgent ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	u32 zero = 0;
	u32 *asleep = bpf_map_lookup_elem(&reader_asleep, &zero);
	void *nothing;

	if (!is_urgent && asleep && *(volatile u32 *)asleep) {
		nothing = bpf_ringbuf_reserve(ring, 8, 0);
		if (nothing)
			bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
	}
	return failed;
}

/*
 * The control group that tells containers apart: of the unified hierarchy when the task is below its root, otherwise
 * (cgroup v1, or a hybrid whose engine only uses v1) of the first v1 controller that has one.
 */
static __always_inline struct cgroup *telling_cgroup(struct task_struct *task)
{
	struct css_set *set = task->cgroups;
	struct cgroup *unified = set->dfl_cgrp;
	struct cgroup *found;

	if (unified->level > 0)
		return unified;
#define TRY_CONTROLLER(id)                                                                                              \
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, id)) {                                                   \
		found = BPF_CORE_READ(set, subsys[bpf_core_enum_value(enum cgroup_subsys_id, id)], cgroup);           \
		if (found && READ(found, level) > 0)                                                         \
			return found;                                                                                 \
	}
	TRY_CONTROLLER(pids_cgrp_id)
	TRY_CONTROLLER(memory_cgrp_id)
	TRY_CONTROLLER(devices_cgrp_id)
	TRY_CONTROLLER(cpu_cgrp_id)
#undef TRY_CONTROLLER
	return unified;
}

static __always_inline void fill_header(struct record_header *header, struct task_struct *task, struct cgroup *cgroup,
					u32 kind, u32 length)
{
	header->kind = kind;
	header->length = length;
	header->time_ns = bpf_ktime_get_boot_ns();
	header->start_ns = task->group_leader->start_boottime;
	header->tgid = task->tgid;
	header->mnt_namespace = task->nsproxy ? task->nsproxy->mnt_ns->ns.inum : 0;
	header->cgroup_id = READ(READ(cgroup, kn), id);
}

static __always_inline bool is_ignored(const struct record_header *header)
{
	struct ignored_key key = {
		.cgroup_id = header->cgroup_id,
		.mnt_namespace = header->mnt_namespace,
	};

	return bpf_map_lookup_elem(&ignored, &key) != NULL;
}

static __always_inline struct scratch *own_scratch(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&scratch, &cpu);
}

/* Appends one name to the walk's string. False when there is no room. */
static __always_inline bool append_name(struct scratch *s, const unsigned char *name)
{
	u32 offset = s->walk.offset;
	long copied;

	if (offset + NAME_BYTES_MAX > s->walk.end)
		return false;
	copied = bpf_probe_read_kernel_str(&s->strings[offset & STRING_OFFSET_MASK], NAME_BYTES_MAX, name);
	if (copied < 0)
		return false;
	s->walk.offset = offset + copied;
	return true;
}

/*
 * One step from a file towards the root. A global function, so that the verifier looks at it once and not once per round
 * of the loop: works without bpf_loop (5.17). Returns 1 when the walk is over.
 */
__noinline int path_step(void)
{
	struct scratch *s = own_scratch();
	struct dentry *dentry, *parent, *mount_root;
	struct mount *mount, *mount_parent;

	if (!s)
		return 1;
	dentry = (struct dentry *)s->walk.dentry;
	mount = (struct mount *)s->walk.mount;
	if (s->walk.dentry == s->walk.root_dentry && s->walk.mount == s->walk.root_mount)
		return 1;
	mount_root = READ(mount, mnt.mnt_root);
	if (dentry == mount_root) {
		mount_parent = READ(mount, mnt_parent);
		if (mount_parent == mount)
			return 1;
		s->walk.dentry = (u64)READ(mount, mnt_mountpoint);
		s->walk.mount = (u64)mount_parent;
		return 0;
	}
	if (!append_name(s, READ(dentry, d_name.name))) {
		s->walk.truncated = 1;
		return 1;
	}
	parent = READ(dentry, d_parent);
	/* A dentry without a place in a tree: memfd, O_TMPFILE of a disconnected handle. */
	if (parent == dentry)
		return 1;
	s->walk.dentry = (u64)parent;
	return 0;
}

/* One step up a control group's hierarchy; `walk.dentry` holds the kernfs_node. */
__noinline int cgroup_step(void)
{
	struct scratch *s = own_scratch();
	struct kernfs_node *node, *parent;

	if (!s)
		return 1;
	node = (struct kernfs_node *)s->walk.dentry;
	if (bpf_core_field_exists(((struct kernfs_node___since_6_15 *)0)->__parent))
		parent = READ((struct kernfs_node___since_6_15 *)node, __parent);
	else
		parent = READ(node, parent);
	if (!parent)
		return 1;
	if (!append_name(s, (const unsigned char *)READ(node, name))) {
		s->walk.truncated = 1;
		return 1;
	}
	s->walk.dentry = (u64)parent;
	return 0;
}

/* Writes the components of `path`, leaf first, at `offset`; returns the offset behind them. */
static __always_inline u32 walk_path(struct scratch *s, struct fs_struct *fs, struct dentry *dentry,
				     struct vfsmount *vfsmount, u32 offset)
{
	s->walk.dentry = (u64)dentry;
	s->walk.mount = (u64)mount_of(vfsmount);
	s->walk.root_dentry = (u64)fs->root.dentry;
	s->walk.root_mount = (u64)mount_of(fs->root.mnt);
	s->walk.offset = offset;
	s->walk.end = offset + PATH_BYTES_MAX;
	s->walk.truncated = 0;
	for (int step = 0; step < WALK_STEPS_MAX; step++) {
		if (path_step())
			return s->walk.offset;
	}
	s->walk.truncated = 1;
	return s->walk.offset;
}

static __always_inline u32 walk_cgroup(struct scratch *s, struct cgroup *cgroup, u32 offset)
{
	s->walk.dentry = (u64)READ(cgroup, kn);
	s->walk.offset = offset;
	s->walk.end = offset + PATH_BYTES_MAX;
	s->walk.truncated = 0;
	for (int step = 0; step < WALK_STEPS_MAX; step++) {
		if (cgroup_step())
			return s->walk.offset;
	}
	s->walk.truncated = 1;
	return s->walk.offset;
}

static __always_inline void fill_socket(struct stdio_fact *fact, struct file *file)
{
	struct socket *socket = READ(file, private_data);
	struct sock *sk = READ(socket, sk);

	if (!sk)
		return;
	fact->family = READ(sk, __sk_common.skc_family);
	fact->state = READ(sk, __sk_common.skc_state);
	if (fact->family == AF_INET) {
		BPF_CORE_READ_INTO((u32 *)fact->local_address, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((u32 *)fact->peer_address, sk, __sk_common.skc_daddr);
	} else if (fact->family == AF_INET6) {
		/* Without IPv6 in the kernel there is no such socket, and no such field. */
		if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
			BPF_CORE_READ_INTO((struct in6_addr *)fact->local_address, sk, __sk_common.skc_v6_rcv_saddr);
			BPF_CORE_READ_INTO((struct in6_addr *)fact->peer_address, sk, __sk_common.skc_v6_daddr);
		}
	} else {
		return;
	}
	fact->local_port = READ(sk, __sk_common.skc_num);
	fact->peer_port = READ(sk, __sk_common.skc_dport);
}

static __always_inline void fill_stdio(struct stdio_fact *fact, struct file *file)
{
	struct inode *inode = READ(file, f_inode);

	fact->inode = READ(inode, i_ino);
	switch (READ(inode, i_mode) & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
		/* Since 6.17 anonymous inodes (eventfd, epoll, ...) have a file type, too. */
		fact->kind = READ(READ(inode, i_sb), s_magic) == ANON_INODE_FS_MAGIC ? STDIO_OTHER : STDIO_FILE;
		break;
	case S_IFCHR:
	case S_IFBLK:
		fact->kind = STDIO_DEVICE;
		break;
	case S_IFIFO:
		fact->kind = STDIO_PIPE;
		break;
	case S_IFSOCK:
		fact->kind = STDIO_SOCKET;
		fill_socket(fact, file);
		break;
	default:
		fact->kind = STDIO_OTHER;
	}
}

static __always_inline void fill_all_stdio(struct exec_record *record, struct task_struct *task)
{
	struct file *files[3] = {};
	struct fdtable *table;

	if (!task->files)
		return;
	/* A table has room for at least BITS_PER_LONG descriptors. */
	table = task->files->fdt;
	bpf_probe_read_kernel(files, sizeof(files), READ(table, fd));
	for (int i = 0; i < 3; i++) {
		if (files[i])
			fill_stdio(&record->stdio[i], files[i]);
	}
}

static __always_inline void fill_credentials(struct exec_record *record, struct task_struct *task)
{
	const struct cred *cred = task->cred;

	record->uid = cred->uid.val;
	record->euid = cred->euid.val;
	record->gid = cred->gid.val;
	record->egid = cred->egid.val;
	/* Eight bytes both as u64 (since 6.3) and as two words. */
	bpf_core_read(&record->cap_effective, sizeof(record->cap_effective), &cred->cap_effective);
	record->user_namespace = cred->user_ns->ns.inum;
}

static __always_inline void fill_namespaces(struct exec_record *record, struct task_struct *task)
{
	/* Read as a number: a verifier before Linux 6.3 refuses to add to a pointer what it does not see the bounds of. */
	struct pid *pid = READ(task, thread_pid);
	struct upid *own;
	struct pid_namespace *namespace;

	if (task->nsproxy)
		record->net_namespace = task->nsproxy->net_ns->ns.inum;
	/* One number per level of nesting; the last is the task's own. */
	own = (void *)&pid->numbers[0] + (u64)READ(pid, level) * bpf_core_type_size(struct upid);
	record->pid_in_namespace = READ(own, nr);
	namespace = READ(own, ns);
	record->pid_namespace = READ(namespace, ns.inum);
}

/* Copies user memory [start, end), at most `bytes_max`, to `offset`. Returns the bytes copied. */
static __always_inline u32 copy_user(struct scratch *s, u32 offset, u64 start, u64 bytes, u32 bytes_max)
{
	u64 length = bytes;

	/* Keeps clang from comparing a copy: the verifier must see the bound on the value that is used. */
	barrier_var(length);
	if (length > bytes_max)
		length = bytes_max;
	if (!length)
		return 0;
	if (bpf_probe_read_user(&s->strings[offset & STRING_OFFSET_MASK], length, (void *)start))
		return 0;
	return length;
}

/*
 * What was executed by a descriptor alone, as fexecve does, or -1. The kernel makes up a name for it (alloc_bprm): "/dev/fd/N",
 * copied to `name`. What a program itself calls so can be another file than its descriptor.
 */
static __always_inline s32 executed_descriptor(struct linux_binprm *bprm, const char *name)
{
	s32 descriptor = 0;

	if (!bpf_core_field_exists(bprm->fdpath) || bprm->fdpath != bprm->filename || *(const u64 *)name != DEV_FD)
		return -1;
	for (int i = 8; i < 8 + DESCRIPTOR_DIGITS_MAX; i++) {
		if (!name[i])
			break;
		if (name[i] < '0' || name[i] > '9')
			return -1;
		descriptor = descriptor * 10 + (name[i] - '0');
	}
	return descriptor;
}

/*
 * False when the ring is full, which is not counted: what is missed that way is a file without bytes, and its event says so. Told
 * of ahead of the event, whose reader has to know; nothing is opened before the probe is done, as it has the CPU.
 */
static __always_inline bool tell_promptly(const struct record_header *header, u32 tid, s32 descriptor)
{
	struct prompt_record record = {
		.header = *header,
		.tid = tid,
		.descriptor = descriptor,
	};
	u32 cpu = bpf_get_smp_processor_id();
	void *ring = bpf_map_lookup_elem(&prompt_rings, &cpu);

	record.header.kind = RECORD_PROMPT;
	record.header.length = sizeof(record);
	return ring && !bpf_ringbuf_output(ring, &record, sizeof(record), BPF_RB_FORCE_WAKEUP);
}

/* Whether the first argument, behind the program's name at `offset`, is `-c`, as of all that `make` runs: then no script is named. */
static __always_inline bool is_command(struct scratch *s, u32 offset)
{
	char name[NAME_LOOKED_AT_MAX];
	long length = bpf_probe_read_kernel_str(name, sizeof(name), &s->strings[offset & STRING_OFFSET_MASK]);

	if (length <= 0)
		return false;
	offset += length;
	return s->strings[offset & STRING_OFFSET_MASK] == '-' && s->strings[(offset + 1) & STRING_OFFSET_MASK] == 'c' &&
	       !s->strings[(offset + 2) & STRING_OFFSET_MASK];
}

/*
 * An interpreter reads the script that its arguments name a moment after its exec, and that may delete itself: told of ahead of the
 * event, as by tell_promptly, to have it opened before the first instruction. What may be an interpreter counts as one. The record
 * of the exec is in the scratch, its arguments at `offset`. A global function, so that the verifier looks at it once.
 */
__noinline int tell_arguments(u32 offset)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = own_scratch();
	struct fs_struct *fs = task->fs;
	struct known_key key = {};
	struct arguments_record *arguments;
	struct exec_record *record;
	u64 length, cwd_length;
	bool has_input;
	u32 cpu;
	void *ring;
	u8 *runs;

	if (!s || !fs)
		return 0;
	record = &s->record;
	has_input = record->stdio[0].kind == STDIO_FILE;
	/* Programs of the host are nobody's concern, and of a script that is executed itself fanotify tells. */
	if ((record->argc < 2 && !has_input) || record->flags & EXEC_INTERPRETED || !host_mnt_namespace ||
	    record->header.mnt_namespace == host_mnt_namespace)
		return 0;
	key.stamp = record->file.stamp;
	key.device = record->file.device;
	runs = bpf_map_lookup_elem(&runs_scripts, &key);
	if (runs && !*runs)
		return 0;
	if (record->argc > 1 && is_command(s, offset))
		return 0;
	cpu = bpf_get_smp_processor_id();
	ring = bpf_map_lookup_elem(&prompt_rings, &cpu);
	if (!ring)
		return 0;
	arguments = bpf_ringbuf_reserve(ring, sizeof(*arguments), 0);
	if (!arguments)
		return 0;
	arguments->header = record->header;
	arguments->header.kind = RECORD_ARGUMENTS;
	arguments->header.length = sizeof(*arguments);
	arguments->tid = task->pid;
	arguments->flags = has_input ? ARGUMENTS_INPUT : 0;
	if (is_local(READ(fs->root.mnt, mnt_sb)))
		arguments->flags |= ARGUMENTS_LOCAL_ROOT;
	length = record->argv_length;
	barrier_var(length);
	if (length > ARGUMENTS_BYTES_MAX)
		length = ARGUMENTS_BYTES_MAX;
	arguments->argv_length = length;
	bpf_probe_read_kernel(arguments->argv, length, &s->strings[offset & STRING_OFFSET_MASK]);
	cwd_length = record->cwd_length;
	barrier_var(cwd_length);
	if (cwd_length > ARGUMENTS_CWD_BYTES_MAX || record->flags & EXEC_CWD_TRUNCATED) {
		arguments->cwd_length = ARGUMENTS_CWD_TOO_LONG;
	} else {
		arguments->cwd_length = cwd_length;
		bpf_probe_read_kernel(arguments->cwd, cwd_length, &s->strings[record->path_length & STRING_OFFSET_MASK]);
	}
	bpf_ringbuf_submit(arguments, BPF_RB_FORCE_WAKEUP);
	record->flags |= runs ? EXEC_ARGUMENTS : EXEC_ARGUMENTS | EXEC_UNCLASSIFIED;
	return 0;
}

#ifdef SINCE_6_14
#include "loads.h"
#else
static __always_inline void tell_loads_of_exec(void)
{
}
#endif

static __always_inline void tell_exec(struct task_struct *task, struct linux_binprm *bprm, bool is_second)
{
	struct counters *count = own_counters();
	struct scratch *s = own_scratch();
	struct cgroup *cgroup = telling_cgroup(task);
	struct exec_record *record;
	struct task_struct *parent;
	struct file *file;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct super_block *sb;
	struct inode *real;
	bool is_mapped;
	u32 offset = 0, next;
	s32 descriptor = -1;
	u64 length;

	if (!count || !s)
		return;
	record = &s->record;
	fill_header(&record->header, task, cgroup, RECORD_EXEC, 0);
	if (is_told(is_second, RECORD_EXEC, (u64)bprm) || is_ignored(&record->header))
		return;
	count->execs++;
	__builtin_memset((char *)record + sizeof(record->header), 0, sizeof(*record) - sizeof(record->header));

	parent = task->real_parent;
	record->parent_tgid = parent->tgid;
	record->parent_start_ns = parent->group_leader->start_boottime;
	BPF_CORE_READ_INTO(&record->comm, task, comm);
	fill_credentials(record, task);
	fill_namespaces(record, task);
	fill_all_stdio(record, task);

	file = bprm->file;
	fs = task->fs;
	mm = task->mm;
	sb = file->f_inode->i_sb;
	bpf_probe_read_kernel_str(record->filesystem, sizeof(record->filesystem), sb->s_type->name);
	real = real_inode(file);
	fill_file(&record->file, file->f_inode, real ?: file->f_inode, file->f_path.mnt);
	is_mapped = real && is_mapped_for_writing(real);
	/* Of a tmpfs itself user space knows that. */
	if (is_mapped || (real && real != file->f_inode && is_never_stamped(real)))
		record->flags |= EXEC_UNSETTLED;
	else if (real && is_stamped(READ(real, i_sb)))
		record->flags |= EXEC_STAMPED;
	if (is_memfd(sb))
		record->flags |= EXEC_MEMFD;
	if (bprm->interp != bprm->filename)
		record->flags |= EXEC_INTERPRETED;
	record->argc = bprm->argc;
	record->envc = bprm->envc;

	offset = walk_path(s, fs, file->f_path.dentry, file->f_path.mnt, 0);
	record->path_length = offset;
	if (s->walk.truncated)
		record->flags |= EXEC_PATH_TRUNCATED;

	next = walk_path(s, fs, fs->pwd.dentry, fs->pwd.mnt, offset);
	record->cwd_length = next - offset;
	if (s->walk.truncated)
		record->flags |= EXEC_CWD_TRUNCATED;
	offset = next;

	next = walk_cgroup(s, cgroup, offset);
	record->cgroup_length = next - offset;
	offset = next;

	length = bpf_probe_read_kernel_str(&s->strings[offset & STRING_OFFSET_MASK], PATH_BYTES_MAX, bprm->filename);
	if ((s64)length > 0 && length <= PATH_BYTES_MAX) {
		descriptor = executed_descriptor(bprm, &s->strings[offset & STRING_OFFSET_MASK]);
		record->filename_length = length;
		offset += length;
	}
	if (record->flags & EXEC_INTERPRETED) {
		length = bpf_probe_read_kernel_str(&s->strings[offset & STRING_OFFSET_MASK], INTERPRETER_BYTES_MAX, bprm->interp);
		if ((s64)length > 0 && length <= INTERPRETER_BYTES_MAX) {
			record->filename_length += length;
			offset += length;
		}
	}

	record->argv_bytes = mm->arg_end - mm->arg_start;
	record->argv_length = copy_user(s, offset, mm->arg_start, record->argv_bytes, ARGV_BYTES_MAX);
	next = offset;
	offset += record->argv_length;

	record->env_bytes = mm->env_end - mm->env_start;
	record->env_length = copy_user(s, offset, mm->env_start, record->env_bytes, ENV_BYTES_MAX);
	offset += record->env_length;

	length = sizeof(*record) + offset;
	if (length > sizeof(*record) + STRING_BYTES_MAX)
		length = sizeof(*record) + STRING_BYTES_MAX;
	record->header.length = length;
	/*
	 * Before 6.5 fanotify is not told of what is executed by a descriptor alone, but of its interpreter. And who reads what
	 * fanotify tells of may take the bytes of a file for known that is being changed.
	 */
	if ((is_mapped || is_changed(&record->file) ||
	     (descriptor >= 0 && LINUX_KERNEL_VERSION < LINUX_6_5 && !(record->flags & EXEC_INTERPRETED)) ||
	     !is_watched(&record->header, sb, file->f_path.mnt)) &&
	    tell_promptly(&record->header, task->pid, -1))
		record->flags |= EXEC_PROMPT;
	/* Nor at any time of a script in a memfd. */
	if (descriptor >= 0 && record->flags & EXEC_INTERPRETED &&
	    tell_promptly(&record->header, task->pid, descriptor))
		record->flags |= EXEC_SCRIPT_PROMPT;
	tell_arguments(next);
	if (emit(&exec_ring, record, length, 512 * 1024))
		count->exec_losses++;
	tell_loads_of_exec();
}

/*
 * void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm), called by exec_binprm after
 * the point of no return: the new image is in place, nothing of it has run, and the other threads are gone, so what is
 * read here cannot be changed by the program. BTF-typed since 5.5; bpf_ktime_get_boot_ns and ring buffers need 5.8.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	keep_cpu();
	tell_exec(task, bprm, false);
	release_cpu();
	return 0;
}

static __always_inline void tell_fork(struct task_struct *parent, struct task_struct *child, bool is_second)
{
	struct counters *count = own_counters();
	struct fork_record record;

	if (is_told(is_second, RECORD_FORK, (u64)child) || child->pid != child->tgid || !count)
		return;
	__builtin_memset(&record, 0, sizeof(record));
	fill_header(&record.header, child, telling_cgroup(child), RECORD_FORK, sizeof(record));
	if (is_ignored(&record.header))
		return;
	record.parent_tgid = parent->tgid;
	record.parent_start_ns = parent->group_leader->start_boottime;
	count->process_events++;
	if (emit(&process_ring, &record, sizeof(record), 512 * 1024))
		count->process_losses++;
}

/*
 * void sched_process_fork(struct task_struct *parent, struct task_struct *child), called by kernel_clone when the child
 * is complete and has not run.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	keep_cpu();
	tell_fork(parent, child, false);
	release_cpu();
	return 0;
}

static __always_inline void tell_exit(struct task_struct *task, bool is_second)
{
	struct counters *count = own_counters();
	struct record_header record;

	if (is_told(is_second, RECORD_EXIT, (u64)task) || !count || task->signal->live.counter != 0)
		return;
	__builtin_memset(&record, 0, sizeof(record));
	fill_header(&record, task, telling_cgroup(task), RECORD_EXIT, sizeof(record));
	if (is_ignored(&record))
		return;
	count->process_events++;
	if (emit(&process_ring, &record, sizeof(record), 512 * 1024))
		count->process_losses++;
}

/*
 * void sched_process_exit(struct task_struct *p), called by do_exit; `signal->live` is 0 when the last thread of the
 * group is on its way out. Two threads that end together may both see 0: a second exit of a process is harmless.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	keep_cpu();
	tell_exit(task, false);
	release_cpu();
	return 0;
}

#ifdef SINCE_6_14
#include "second.h"
#endif
