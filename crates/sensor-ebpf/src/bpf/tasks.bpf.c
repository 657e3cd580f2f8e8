// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The processes that run: pid and exact start time, which /proc rounds to 10 ms.
 */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

struct running {
	u64 start_ns;
	u32 tgid;
	u32 mnt_namespace;
};

_Static_assert(sizeof(struct running) == 16, "running is 16 bytes");

/*
 * Task iterator, since 5.8. `task` is NULL once, at the end. A process whose first thread has ended is told by each of the
 * others: the first one has neither memory nor namespaces any more.
 */
SEC("iter/task")
int each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct running running = {};

	/* Kernel threads have no memory of their own, and no program. */
	if (!task || !task->mm || (task->pid != task->tgid && task->group_leader->mm))
		return 0;
	running.start_ns = task->group_leader->start_boottime;
	running.tgid = task->tgid;
	running.mnt_namespace = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	bpf_seq_write(ctx->meta->seq, &running, sizeof(running));
	return 0;
}
