// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Library loads: what is mapped executable, by mmap, by exec (`ld.so`) and by mprotect.
 *
 * No hook for that can be had everywhere. These two tell of it from the side: an address space keeps its mappings in a maple
 * tree, whose writes can be traced, and a change of protection lets go of the address space's lock. Both are details of the
 * kernel, so user space tries them before it relies on them, and takes perf's records otherwise. Those cost more (some 9 us a
 * call of mmap, where these take 1): with them the kernel makes up the path of each mapping of each process, of data and the
 * host's, too.
 */

#if defined(__TARGET_ARCH_x86) || defined(__TARGET_ARCH_arm64)

#define VM_EXEC 0x00000004
#define PROT_READ 0x1
#define PROT_EXEC 0x4
/* Of include/uapi/linux/personality.h: what may be read may be executed. */
#define READ_IMPLIES_EXEC 0x0400000

/* Mappings that one change of protection is followed through; more are losses. */
#define PROTECT_MAPPINGS_MAX 512

/* "mas_stor", the first eight bytes of the name of the function that stores a mapping. */
#define MAS_STORE 0x726f74735f73616dULL

/* Levels of a maple tree, far more than fill an address space; and the kinds of nodes in one of ranges. */
#define MAPLE_DEPTH_MAX 8
#define MAPLE_LEAF_64 1
#define MAPLE_ARANGE_64 3

/*
 * Files that user space knows: it has their bytes, and a change of them is a change of their times. What is not among them is
 * opened promptly, as it may be gone soon.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct known_key);
	__type(value, u8);
} known SEC(".maps");

/* Unknown files that a process has mapped of late: each is opened promptly once. A JIT compiler maps its own again and again. */
struct prompted_key {
	u64 start_ns;
	u64 inode;
	u32 device;
	u32 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct prompted_key);
	__type(value, u8);
} prompted SEC(".maps");

static __always_inline bool is_known(const struct inode_facts *file)
{
	struct known_key key = {
		.stamp = file->stamp,
		.device = file->device,
	};

	return bpf_map_lookup_elem(&known, &key) != NULL;
}

/* The descriptor that the current system call is to map, or -1. User space looks whether it is the file. */
static __always_inline s32 descriptor_of_mmap(struct task_struct *task)
{
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
	/* mmap, of x32 (bit 30), too; and mmap2 of i386. */
	if ((registers->orig_ax & ~0x40000000UL) == 9)
		return registers->r8;
	return registers->orig_ax == 192 ? (s32)registers->di : -1;
#else
	return registers->syscallno == 222 || registers->syscallno == 192 ? (s32)registers->regs[4] : -1;
#endif
}

static __always_inline bool tell_load_promptly(const struct load_record *record, struct task_struct *task)
{
	struct prompted_key key = {
		.start_ns = record->header.start_ns,
		.inode = record->file.stamp.inode,
		.device = record->file.device,
		.tgid = record->header.tgid,
	};
	s32 descriptor = descriptor_of_mmap(task);
	u8 once = 1;

	/* Libraries of the host are nobody's concern. */
	if (record->header.mnt_namespace == host_mnt_namespace)
		return false;
	return descriptor >= 0 && !bpf_map_update_elem(&prompted, &key, &once, BPF_NOEXIST) &&
	       tell_promptly(&record->header, task->pid, descriptor);
}

/* A global function, so that the verifier looks at it once. `mapping` is a `struct vm_area_struct` of the current process. */
__noinline int tell_load(u64 mapping)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma = (struct vm_area_struct *)mapping;
	struct mm_struct *mm = task->mm;
	struct fs_struct *fs = task->fs;
	struct counters *count;
	struct scratch *s;
	struct load_record *record;
	struct file *file;
	struct inode *inode, *real;
	struct path path;
	struct super_block *sb;
	bool is_by_exec, is_mapped;
	u64 length;

	if (!mm || !fs)
		return 0;
	file = READ(vma, vm_file);
	if (!file || !(READ(vma, vm_flags) & VM_EXEC) || READ(vma, vm_mm) != mm)
		return 0;
	inode = NULL;
	if (READ(file, f_mode) & FMODE_NOACCOUNT) {
		BPF_CORE_READ_INTO(&path, (struct backing_file *)file, user_path);
		inode = READ(path.dentry, d_inode);
	}
	if (!is_regular(inode)) {
		BPF_CORE_READ_INTO(&path, file, f_path);
		inode = READ(path.dentry, d_inode);
		if (!is_regular(inode))
			return 0;
	}
	/* The program itself: its exec tells of it. */
	is_by_exec = BPF_CORE_READ_BITFIELD(task, in_execve);
	if (is_by_exec && READ(READ(mm, exe_file), f_inode) == inode)
		return 0;
	count = own_counters();
	s = own_scratch();
	if (!count || !s)
		return 0;
	record = &s->load;
	fill_header(&record->header, task, telling_cgroup(task), RECORD_LOAD, 0);
	if (is_ignored(&record->header))
		return 0;
	sb = READ(inode, i_sb);
	record->flags = is_by_exec ? LOAD_BY_EXEC : 0;
	count->loads++;
	record->address_start = READ(vma, vm_start);
	record->address_end = READ(vma, vm_end);
	real = READ(file, f_inode);
	fill_file(&record->file, inode, real, path.mnt);
	record->real_inode = READ(real, i_ino);
	__builtin_memset(record->filesystem, 0, sizeof(record->filesystem));
	bpf_probe_read_kernel_str(record->filesystem, sizeof(record->filesystem), READ(READ(sb, s_type), name));
	if (is_memfd(sb))
		record->flags |= LOAD_MEMFD;
	is_mapped = is_mapped_for_writing(real);
	if (is_mapped || (real != inode && is_never_stamped(real)))
		record->flags |= LOAD_UNSETTLED;
	else if (is_by_exec && is_stamped(READ(real, i_sb)))
		record->flags |= LOAD_STAMPED;
	if (is_mapped || !is_known(&record->file)) {
		record->flags |= LOAD_UNKNOWN;
		if (tell_load_promptly(record, task))
			record->flags |= LOAD_PROMPT;
	}
	length = walk_path(s, fs, path.dentry, path.mnt, sizeof(*record));
	if (length > sizeof(*record) + PATH_BYTES_MAX)
		length = sizeof(*record) + PATH_BYTES_MAX;
	record->path_length = length - sizeof(*record);
	if (s->walk.truncated)
		record->flags |= LOAD_PATH_TRUNCATED;
	record->header.length = length;
	if (emit(&load_ring, record, length, 256 * 1024))
		count->load_losses++;
	return 0;
}

/* Called some twenty times an exec: what most calls end by comes first, and calls no helper. */
static __always_inline void tell_mapped(const char *function, struct ma_state *state, void *entry, bool is_second)
{
	struct vm_area_struct *vma = entry;
	struct mm_struct *mm;
	u64 name = 0;

	/* Of another tree this is no mapping; what is read of it then leads nowhere. */
	if (!entry || ((u64)entry & 3) || !(READ(vma, vm_flags) & VM_EXEC) || !READ(vma, vm_file))
		return;
	mm = bpf_get_current_task_btf()->mm;
	if (!mm || (u64)state->tree != (u64)mm + bpf_core_field_offset(struct mm_struct, mm_mt))
		return;
	bpf_probe_read_kernel(&name, sizeof(name), function);
	if (name == MAS_STORE && !is_told(is_second, RECORD_LOAD, (u64)entry))
		tell_load((u64)entry);
}

/*
 * void ma_write(const char *fn, struct ma_state *mas, unsigned long piv, void *val), called by mas_store_prealloc (since 6.1):
 * a mapping, all of whose fields are set, goes into the tree of an address space, whose lock is held. The functions that it
 * calls in turn trace the same again.
 */
SEC("tp_btf/ma_write")
int BPF_PROG(on_map, const char *function, struct ma_state *state, unsigned long pivot, void *entry)
{
	keep_cpu();
	tell_mapped(function, state, entry, false);
	release_cpu();
	return 0;
}

/*
 * Tells of what is mapped at the beginning of the range, and takes it off the range. Returns 1 when the range is empty. A walk
 * down the maple tree, which nobody changes meanwhile: the lock is held.
 */
__noinline int protect_step(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = own_scratch();
	struct mm_struct *mm = task->mm;
	u64 entry, address, last = ~0UL;

	if (!s || !mm || s->range.start >= s->range.end)
		return 1;
	address = s->range.start;
	entry = (u64)READ(mm, mm_mt.ma_root);
	/* A node, and not a single mapping: only the root says so. */
	if ((entry & 3) != 2)
		return 1;
	for (int level = 0; level < MAPLE_DEPTH_MAX; level++) {
		u64 kind = (entry >> 3) & 0xf, node = entry & ~0xffUL, pivots[15];
		u32 pivot_count, slot, slots;

		if (!node)
			return 1;
		if (kind == MAPLE_ARANGE_64) {
			pivot_count = 9;
			slots = bpf_core_field_offset(struct maple_arange_64, slot);
			bpf_probe_read_kernel(pivots, 9 * sizeof(u64),
					      (void *)node + bpf_core_field_offset(struct maple_arange_64, pivot));
		} else {
			pivot_count = 15;
			slots = bpf_core_field_offset(struct maple_range_64, slot);
			bpf_probe_read_kernel(pivots, 15 * sizeof(u64),
					      (void *)node + bpf_core_field_offset(struct maple_range_64, pivot));
		}
		for (slot = 0; slot < 15; slot++) {
			if (slot >= pivot_count)
				break;
			/* 0 behind the first: the rest is not in use, and this one reaches to the parent's pivot. */
			if (slot && !pivots[slot])
				break;
			if (address <= pivots[slot]) {
				last = pivots[slot];
				break;
			}
		}
		bpf_probe_read_kernel(&entry, sizeof(entry), (void *)node + slots + slot * sizeof(u64));
		if (kind == MAPLE_LEAF_64)
			break;
	}
	if (entry && !(entry & 3))
		tell_load(entry);
	if (last == ~0UL)
		return 1;
	s->range.start = last + 1;
	return 0;
}

/* The range that the current system call is to change the protection of. False when it cannot make anything executable. */
static __always_inline bool read_range(struct task_struct *task, struct range *range)
{
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 protection, length;

#if defined(__TARGET_ARCH_x86)
	/* mprotect and pkey_mprotect, of x32 (bit 30) and of i386, too. */
	u32 number = registers->orig_ax & ~0x40000000U;

	if (number != 10 && number != 329 && number != 125 && number != 380)
		return false;
	/* TS_COMPAT */
	if (task->thread_info.status & 2) {
		range->start = (u32)registers->bx;
		length = (u32)registers->cx;
	} else {
		range->start = registers->di;
		length = registers->si;
	}
	protection = registers->dx;
#else
	/* The same, of 32-bit programs, too. */
	if (registers->syscallno != 226 && registers->syscallno != 288 && registers->syscallno != 125 &&
	    registers->syscallno != 394)
		return false;
	range->start = registers->regs[0];
	length = registers->regs[1];
	protection = registers->regs[2];
#endif
	range->end = range->start + length;
	if (range->end < range->start)
		return false;
	return (protection & PROT_EXEC) || ((protection & PROT_READ) && (task->personality & READ_IMPLIES_EXEC));
}

static __always_inline void tell_protected(struct mm_struct *unlocked, bool is_write, bool is_second)
{
	struct task_struct *task;
	struct counters *count;
	struct scratch *s;
	struct range range;

	if (!is_write)
		return;
	task = bpf_get_current_task_btf();
	/* Of an exec are nearly all calls: it changes no protection but its stack's. */
	if (BPF_CORE_READ_BITFIELD(task, in_execve) || unlocked != task->mm || !read_range(task, &range) ||
	    is_told(is_second, RECORD_LOAD, range.start))
		return;
	count = own_counters();
	s = own_scratch();
	if (!count || !s)
		return;
	s->range = range;
	for (int mapping = 0; mapping < PROTECT_MAPPINGS_MAX; mapping++) {
		if (protect_step())
			return;
	}
	count->loads++;
	count->load_losses++;
}

/*
 * void mmap_lock_released(struct mm_struct *mm, bool write), called by mmap_write_unlock in front of the unlock. In older
 * kernels it also makes up the control group's path for each call, which costs more than perf.
 */
SEC("tp_btf/mmap_lock_released")
int BPF_PROG(on_unlock, struct mm_struct *unlocked, bool is_write)
{
	keep_cpu();
	tell_protected(unlocked, is_write, false);
	release_cpu();
	return 0;
}

#endif
