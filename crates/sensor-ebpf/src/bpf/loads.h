// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Library loads: what is mapped executable, by mmap, by exec (`ld.so`) and by mprotect.
 *
 * No hook for that can be had everywhere. This one tells of it from the side: whoever has changed the mappings of an address space
 * lets go of its lock. The system call says whether that can have made something executable, and where to look; the tree of the
 * mappings, what is there. Both are details of the kernel, so user space tries them before it relies on them, and takes perf's
 * records otherwise. Those cost more (some 9 us a call of mmap): with them the kernel makes up the path of each mapping of each
 * process, of data and the host's, too.
 */

#if defined(__TARGET_ARCH_x86) || defined(__TARGET_ARCH_arm64)

#define VM_EXEC 0x00000004
#define PROT_READ 0x1
#define PROT_EXEC 0x4
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_FIXED_NOREPLACE 0x100000
#define SHM_EXEC 0100000
/* Of include/uapi/linux/personality.h: what may be read may be executed. */
#define READ_IMPLIES_EXEC 0x0400000

/* What of an address says where it is: the processor may be told to ignore the bits above (LAM, TBI), and mprotect does then. */
#define ADDRESS_MASK 0x00ffffffffffffffULL

/* SHMAT of include/uapi/linux/ipc.h. */
#define IPC_SHMAT 21

/* Leaves of a tree that are looked through for one system call or exec: some thousand mappings. More are a loss. */
#define LEAVES_MAX 512

/* Mappings that one of them tells of, and the rest of a leaf: each is a record that others have less room for. More are a loss. */
#define FOUND_MAX 512

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

#if defined(__TARGET_ARCH_x86)
/* TS_COMPAT: the current system call is one of a 32-bit program, by i386's numbers. */
static __always_inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.status & 2;
}

/* Bit 30 says x32. */
static __always_inline u32 system_call(struct pt_regs *registers)
{
	return registers->orig_ax & ~0x40000000U;
}
#endif

/* The descriptor that the current system call is to map, or -1. User space looks whether it is the file. */
static __always_inline s32 descriptor_of_mmap(struct task_struct *task)
{
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
	u32 number = system_call(registers);
	s32 descriptor = -1;

	if (!is_compat(task))
		return number == 9 ? (s32)registers->r8 : -1;
	/* The old mmap has its arguments in memory, this one behind four others. */
	if (number == 90)
		bpf_probe_read_user(&descriptor, sizeof(descriptor), (void *)(u64)((u32)registers->bx + 4 * sizeof(u32)));
	else if (number == 192)
		descriptor = registers->di;
	return descriptor;
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
	record->flags = 0;
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

/* One of the mappings that are looked for. */
static __always_inline void look_at(struct range *range, u64 entry)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)entry;

	if (!entry || (entry & 3) || !(READ(vma, vm_flags) & VM_EXEC) || !READ(vma, vm_file))
		return;
	if (range->length && READ(vma, vm_end) - READ(vma, vm_start) != range->length)
		return;
	range->found++;
	tell_load(entry);
}

/*
 * Looks at the mappings of the leaf at the beginning of the range, and takes them off the range. Returns 1 when nothing is left. A
 * walk down the maple tree, whose lock is held or whose process is alone with it; what is replaced meanwhile stays as it was until
 * this is over (RCU).
 */
__noinline int range_step(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = own_scratch();
	struct mm_struct *mm = task->mm;
	u64 entry, node, kind, last = ~0UL;

	if (!s || !mm || s->range.start >= s->range.end)
		return 1;
	entry = (u64)READ(mm, mm_mt.ma_root);
	/* A node, and not a single mapping: only the root says so. */
	if ((entry & 3) != 2)
		return 1;
	for (int level = 0; level < MAPLE_DEPTH_MAX; level++) {
		u32 slot, slots, pivot_count;

		kind = (entry >> 3) & 0xf;
		node = entry & ~0xffUL;
		if (!node)
			return 1;
		if (kind == MAPLE_ARANGE_64) {
			pivot_count = 9;
			slots = bpf_core_field_offset(struct maple_arange_64, slot);
			bpf_probe_read_kernel(s->pivots, 9 * sizeof(u64),
					      (void *)node + bpf_core_field_offset(struct maple_arange_64, pivot));
		} else {
			pivot_count = 15;
			slots = bpf_core_field_offset(struct maple_range_64, slot);
			bpf_probe_read_kernel(s->pivots, 15 * sizeof(u64),
					      (void *)node + bpf_core_field_offset(struct maple_range_64, pivot));
		}
		if (kind == MAPLE_LEAF_64)
			break;
		for (slot = 0; slot < 15; slot++) {
			if (slot >= pivot_count)
				break;
			/* 0 behind the first: the rest is not in use, and this one reaches to the parent's pivot. */
			if (slot && !s->pivots[slot])
				break;
			if (s->range.start <= s->pivots[slot]) {
				last = s->pivots[slot];
				break;
			}
		}
		bpf_probe_read_kernel(&entry, sizeof(entry), (void *)node + slots + slot * sizeof(u64));
	}
	if (kind != MAPLE_LEAF_64)
		return 1;
	bpf_probe_read_kernel(s->slots, sizeof(s->slots), (void *)node + bpf_core_field_offset(struct maple_range_64, slot));
	for (int slot = 0; slot < 16; slot++) {
		u64 pivot = slot < 15 ? s->pivots[slot] : 0;

		if (!pivot || pivot > last)
			pivot = last;
		if (pivot >= s->range.start)
			look_at(&s->range, s->slots[slot]);
		if (pivot >= last || pivot >= s->range.end - 1)
			break;
	}
	if (last == ~0UL)
		return 1;
	s->range.start = last + 1;
	return 0;
}

/* Tells of what is mapped executable in the range. */
static __always_inline void tell_range(struct counters *count, struct scratch *s)
{
	s->range.found = 0;
	for (int leaf = 0; leaf < LEAVES_MAX && s->range.found < FOUND_MAX; leaf++) {
		if (range_step())
			return;
	}
	count->loads++;
	count->load_losses++;
}

/* Tells of what an exec has mapped besides the program. Of a process that is alone. */
static __always_inline void tell_loads_of_exec(void)
{
	struct counters *count = own_counters();
	struct scratch *s = own_scratch();

	if (!count || !s)
		return;
	s->range.start = 0;
	s->range.end = ~0UL;
	s->range.length = 0;
	tell_range(count, s);
}

/*
 * Where to look for what the current system call may have made executable. False when it cannot have. Arguments are what the kernel
 * has taken them for: they are in registers, which nobody else can write to meanwhile.
 */
static __always_inline bool read_range(struct task_struct *task, struct range *range)
{
	struct pt_regs *registers = (struct pt_regs *)bpf_task_pt_regs(task);
	u64 address, length, protection, flags = MAP_FIXED;
	bool is_shared_memory = false;

#if defined(__TARGET_ARCH_x86)
	u32 number = system_call(registers);

	if (is_compat(task)) {
		address = (u32)registers->bx;
		length = (u32)registers->cx;
		protection = registers->dx;
		switch (number) {
		case 125: /* mprotect */
		case 380: /* pkey_mprotect */
			break;
		case 192: /* mmap2 */
			flags = registers->si;
			break;
		case 90: /* mmap, whose arguments are in memory: anything */
			protection = PROT_EXEC;
			length = flags = 0;
			break;
		case 117: /* ipc */
			if ((registers->bx & 0xffff) != IPC_SHMAT)
				return false;
			is_shared_memory = true;
			break;
		case 397: /* shmat */
			is_shared_memory = true;
			break;
		default:
			return false;
		}
	} else {
		address = registers->di;
		length = registers->si;
		protection = registers->dx;
		switch (number) {
		case 9: /* mmap */
			flags = registers->r10;
			break;
		case 10: /* mprotect */
		case 329: /* pkey_mprotect */
			break;
		case 30: /* shmat */
			is_shared_memory = true;
			break;
		default:
			return false;
		}
	}
#else
	/* The same, and of 32-bit programs: none of either has another meaning that changes mappings. */
	address = registers->regs[0];
	length = registers->regs[1];
	protection = registers->regs[2];
	switch (registers->syscallno) {
	case 222: /* mmap */
	case 192: /* mmap2 */
		flags = registers->regs[3];
		break;
	case 226: /* mprotect */
	case 288: /* pkey_mprotect */
	case 125:
	case 394:
		break;
	case 196: /* shmat */
	case 305:
		is_shared_memory = true;
		break;
	default:
		return false;
	}
#endif
	if (is_shared_memory) {
		/* Its flags are where the protection of others is, and its length is not told. */
		protection = PROT_READ | (protection & SHM_EXEC ? PROT_EXEC : 0);
		length = flags = 0;
	}
	if (!(protection & PROT_EXEC) && !((protection & PROT_READ) && (task->personality & READ_IMPLIES_EXEC)))
		return false;
	if (flags & MAP_ANONYMOUS)
		return false;
	range->start = 0;
	range->end = ~0UL;
	range->length = (length + 4095) & ~4095UL;
	range->found = 0;
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		address &= ADDRESS_MASK;
		range->start = address;
		range->end = address + length;
		range->length = 0;
	}
	return range->end >= range->start;
}

static __always_inline void tell_changed(struct mm_struct *unlocked, bool is_write, bool is_second)
{
	struct task_struct *task;
	struct counters *count;
	struct scratch *s;
	struct range range;

	if (!is_write)
		return;
	task = bpf_get_current_task_btf();
	/* Of an exec are nearly all calls. It tells of what it has mapped when it is done. */
	if (BPF_CORE_READ_BITFIELD(task, in_execve) || unlocked != task->mm || !read_range(task, &range) ||
	    is_told(is_second, RECORD_LOAD, range.start ^ range.length))
		return;
	count = own_counters();
	s = own_scratch();
	if (!count || !s)
		return;
	s->range = range;
	tell_range(count, s);
	/* The kernel has chosen the place, and joined the mapping with another, or has larger pages. */
	if (range.length && !s->range.found) {
		s->range = range;
		s->range.length = 0;
		tell_range(count, s);
	}
}

/*
 * void mmap_lock_released(struct mm_struct *mm, bool write), called by mmap_write_unlock in front of the unlock. In older
 * kernels it also makes up the control group's path for each call, which costs more than perf.
 */
SEC("tp_btf/mmap_lock_released")
int BPF_PROG(on_unlock, struct mm_struct *unlocked, bool is_write)
{
	keep_cpu();
	tell_changed(unlocked, is_write, false);
	release_cpu();
	return 0;
}

#endif
