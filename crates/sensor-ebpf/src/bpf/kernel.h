// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The fields of kernel structures that the probes read, and nothing else.
 *
 * Kept by hand instead of a generated vmlinux.h: preserve_access_index makes libbpf look up every field by name in the
 * running kernel's BTF, so order, size and the fields left out do not matter. A type whose name ends in ___something is
 * a flavor: the same kernel type as it was in other kernel versions.
 */
#ifndef HULLWATCH_KERNEL_H
#define HULLWATCH_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	int mnt_id;
	u32 mnt_fsnotify_mask;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	u32 s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
	struct file_system_type *s_type;
	u32 s_fsnotify_mask;
};

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

typedef struct {
	int counter;
} atomic_t;

struct address_space {
	atomic_t i_mmap_writable;
};

/* Since 6.11. */
struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	struct address_space *i_mapping;
	unsigned long i_ino;
	unsigned int i_nlink;
	s64 i_size;
	s64 i_mtime_sec;
	s64 i_ctime_sec;
	u32 i_mtime_nsec;
	u32 i_ctime_nsec;
};

/* Up to 6.5: i_ctime; up to 6.6: i_mtime. */
struct inode___before_6_7 {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
};

/* 6.6 (ctime) and 6.7 to 6.10 (both). */
struct inode___before_6_11 {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct file {
	u32 f_mode;
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

/* A file that a stacked filesystem (overlayfs) has opened in the name of one of its own. */
struct backing_file {
	struct path user_path;
};

/* Since 6.13, of overlayfs, which may be a module; before, `private_data` is what `realfile` is. */
struct ovl_file {
	struct file *realfile;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct maple_tree {
	void *ma_root;
};

/* Leaves, with pivots of the ranges' last addresses in front of the slots. */
struct maple_range_64 {
	unsigned long pivot[15];
	void *slot[16];
};

/* Nodes above. */
struct maple_arange_64 {
	unsigned long pivot[9];
	void *slot[10];
};

struct mm_struct {
	struct maple_tree mm_mt;
	struct file *exe_file;
	unsigned long arg_start, arg_end, env_start, env_end;
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct mm_struct *vm_mm;
	unsigned long vm_flags;
	struct file *vm_file;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long orig_ax, bx, cx, dx, si, di, r8, r10;
};

struct thread_info {
	u32 status;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	int syscallno;
};
#endif

struct ns_common {
	unsigned int inum;
};

struct user_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	unsigned int level;
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

typedef struct {
	u64 val;
} kernel_cap_t;

/* Up to 6.2: two words. */
struct kernel_cap_struct___before_6_3 {
	u32 cap[2];
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	u64 id;
};

/* Since 6.15. */
struct kernfs_node___since_6_15 {
	struct kernfs_node *__parent;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

struct signal_struct {
	atomic_t live;
};

struct task_struct {
#if defined(__TARGET_ARCH_x86)
	struct thread_info thread_info;
#endif
	struct mm_struct *mm;
	unsigned int personality;
	unsigned in_execve : 1;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	u64 start_boottime;
	struct pid *thread_pid;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
};

struct linux_binprm {
	struct file *file;
	int argc;
	int envc;
	const char *filename;
	const char *interp;
	/* Since 5.9. */
	const char *fdpath;
};

struct in6_addr {
	u8 bytes[16];
} __attribute__((aligned(4)));

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile u8 skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
};

struct socket {
	struct sock *sk;
};

/* Enum values differ by kernel configuration: taken from BTF by name. */
enum cgroup_subsys_id {
	pids_cgrp_id = 1,
	memory_cgrp_id = 2,
	cpu_cgrp_id = 3,
	devices_cgrp_id = 4,
};

#pragma clang attribute pop

/*
 * Reads one field through any pointer. A helper is called for it, or, for kernels that have the cast (6.2), an instruction is
 * enough: the kernel checks where it leads to by itself.
 */
#ifdef SINCE_6_14
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __attribute__((section(".ksyms")));
#define READ(pointer, field)                                                                                            \
	(((__typeof__(*(pointer)) *)bpf_rdonly_cast((pointer), bpf_core_type_id_kernel(__typeof__(*(pointer)))))->field)
#else
#define READ(pointer, field)                                                                                            \
	({                                                                                                              \
		__typeof__(pointer) read_pointer = (pointer);                                                           \
		BPF_CORE_READ(read_pointer, field);                                                                     \
	})
#endif

#endif
