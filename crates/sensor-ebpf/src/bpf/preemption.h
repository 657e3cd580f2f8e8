// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What Linux 7.0 needs, where tracing programs can be preempted: a program keeps its CPU, and says what it tells, for the one that
 * tells what it was skipped for (`second.h`). Before, all of this is nothing.
 */
#ifndef HULLWATCH_PREEMPTION_H
#define HULLWATCH_PREEMPTION_H

/* KERNEL_VERSION of linux/version.h. */
#define LINUX_7_0 0x070000

#ifdef SINCE_6_14
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;

/*
 * Since Linux 7.0 another task can take the CPU in the middle of a program. It would write to the same scratch: so the CPU is kept.
 * Before, the tracepoint itself does that.
 */
static __always_inline void keep_cpu(void)
{
	if (LINUX_KERNEL_VERSION >= LINUX_7_0)
		bpf_preempt_disable();
}

/* Whoever was kept waiting gets it here, while the kernel still takes the program for running, and skips it for others. */
static __always_inline void release_cpu(void)
{
	if (LINUX_KERNEL_VERSION >= LINUX_7_0)
		bpf_preempt_enable();
}

/* What a thread was the last to tell by a program, so that the second program, which runs behind, knows what was skipped. */
struct told_key {
	u32 tid;
	u32 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct told_key);
	__type(value, u64);
} told SEC(".maps");

/* Of the first program: says that it tells. Of the second, which must not tell it again: whether the first one did. */
static __always_inline bool is_told(bool is_second, u32 kind, u64 what)
{
	struct told_key key = {.kind = kind};
	struct counters *count;
	u64 *last;

	if (LINUX_KERNEL_VERSION < LINUX_7_0)
		return false;
	key.tid = (u32)bpf_get_current_pid_tgid();
	if (!is_second) {
		bpf_map_update_elem(&told, &key, &what, BPF_ANY);
		return false;
	}
	last = bpf_map_lookup_elem(&told, &key);
	if (!last || *last != what) {
		count = own_counters();
		if (count && kind == RECORD_EXEC)
			count->second_execs++;
		else if (count && kind != RECORD_LOAD)
			count->second_process_events++;
		return false;
	}
	/* The same address can be given to what comes next. */
	bpf_map_delete_elem(&told, &key);
	return true;
}
#else
static __always_inline void keep_cpu(void)
{
}

static __always_inline void release_cpu(void)
{
}

static __always_inline bool is_told(bool is_second, u32 kind, u64 what)
{
	return false;
}
#endif

#endif
