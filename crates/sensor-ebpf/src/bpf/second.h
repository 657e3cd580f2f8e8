// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The same programs a second time, attached since Linux 7.0 behind the first ones: they tell what those were skipped for. What both
 * are skipped for is a loss.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec_2, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	keep_cpu();
	tell_exec(task, bprm, true);
	release_cpu();
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork_2, struct task_struct *parent, struct task_struct *child)
{
	keep_cpu();
	tell_fork(parent, child, true);
	release_cpu();
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit_2, struct task_struct *task)
{
	keep_cpu();
	tell_exit(task, true);
	release_cpu();
	return 0;
}

SEC("tp_btf/mmap_lock_released")
int BPF_PROG(on_unlock_2, struct mm_struct *unlocked, bool is_write)
{
	keep_cpu();
	tell_changed(unlocked, is_write, true);
	release_cpu();
	return 0;
}
