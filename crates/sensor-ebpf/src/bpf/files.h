// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Files: what identifies their bytes, when that can be relied on, and whether fanotify tells of them.
 */
#ifndef HULLWATCH_FILES_H
#define HULLWATCH_FILES_H

#define S_IFMT 00170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFIFO 0010000

#define SB_KERNMOUNT (1 << 22)
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define RAMFS_MAGIC 0x858458f6
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define EXT4_SUPER_MAGIC 0xef53
#define XFS_SUPER_MAGIC 0x58465342
#define BTRFS_SUPER_MAGIC 0x9123683e
#define EROFS_SUPER_MAGIC_V1 0xe0f5e1e2
#define SQUASHFS_MAGIC 0x73717368

/* FILESYSTEM_MAX_STACK_DEPTH of include/linux/fs.h. */
#define OVERLAYS_NESTED_MAX 2

/*
 * Of include/linux/fs.h: the kernel has opened the file for itself, as all in a `struct backing_file` are. (Those have a bit of
 * their own, too, which moves from version to version.)
 */
#define FMODE_NOACCOUNT (1 << 29)

/* Of include/linux/fsnotify_backend.h: FAN_OPEN_EXEC. */
#define FS_OPEN_EXEC 0x00001000

/* KERNEL_VERSION of linux/version.h. */
#define LINUX_6_13 0x060d00

/* Since 6.13 (multigrain timestamps) the top bit says that the time was looked at; no time has it. */
#define CTIME_NSEC_MASK 0x7fffffff

#ifdef SINCE_6_14
/*
 * Programs that fanotify does not tell of, since they run all the time, and how they looked when it was told so. Not an LRU: what
 * goes from here must be told of by fanotify before.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct untold_key);
	__type(value, struct inode_stamp);
} untold SEC(".maps");
#endif

static __always_inline struct mount *mount_of(struct vfsmount *vfsmount)
{
	return (struct mount *)((char *)vfsmount - bpf_core_field_offset(struct mount, mnt));
}

static __always_inline void fill_times(struct inode_stamp *stamp, struct inode *inode)
{
	struct inode___before_6_7 *oldest = (void *)inode;
	struct inode___before_6_11 *older = (void *)inode;

	if (bpf_core_field_exists(inode->i_mtime_sec)) {
		stamp->mtime_sec = READ(inode, i_mtime_sec);
		stamp->mtime_nsec = READ(inode, i_mtime_nsec);
	} else if (bpf_core_field_exists(older->__i_mtime)) {
		stamp->mtime_sec = READ(older, __i_mtime.tv_sec);
		stamp->mtime_nsec = READ(older, __i_mtime.tv_nsec);
	} else {
		stamp->mtime_sec = READ(oldest, i_mtime.tv_sec);
		stamp->mtime_nsec = READ(oldest, i_mtime.tv_nsec);
	}
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		stamp->ctime_sec = READ(inode, i_ctime_sec);
		stamp->ctime_nsec = READ(inode, i_ctime_nsec) & CTIME_NSEC_MASK;
	} else if (bpf_core_field_exists(older->__i_ctime)) {
		stamp->ctime_sec = READ(older, __i_ctime.tv_sec);
		stamp->ctime_nsec = READ(older, __i_ctime.tv_nsec);
	} else {
		stamp->ctime_sec = READ(oldest, i_ctime.tv_sec);
		stamp->ctime_nsec = READ(oldest, i_ctime.tv_nsec);
	}
}

static __always_inline bool is_regular(struct inode *inode)
{
	return inode && (READ(inode, i_mode) & S_IFMT) == S_IFREG;
}

/* What an overlay has opened in the name of one of its own files. */
static __always_inline struct file *file_of_layer(struct file *file)
{
	void *private = READ(file, private_data);
	struct file *of_layer = private;

	if (bpf_core_type_exists(struct ovl_file))
		bpf_probe_read_kernel(&of_layer, sizeof(of_layer),
				      private + bpf_core_field_offset(struct ovl_file, realfile));
	else if (LINUX_KERNEL_VERSION >= LINUX_6_13)
		bpf_probe_read_kernel(&of_layer, sizeof(of_layer), private);
	return of_layer;
}

/* The inode that has the bytes of an open file and the times of their changes: on an overlay that of a layer. NULL when not known. */
static __always_inline struct inode *real_inode(struct file *file)
{
	struct inode *inode = READ(file, f_inode);

	for (int depth = 0; depth < OVERLAYS_NESTED_MAX; depth++) {
		if (READ(READ(inode, i_sb), s_magic) != OVERLAYFS_SUPER_MAGIC)
			return inode;
		file = file_of_layer(file);
		if (!file || !(READ(file, f_mode) & FMODE_NOACCOUNT))
			return NULL;
		inode = READ(file, f_inode);
		if (!is_regular(inode))
			return NULL;
	}
	return READ(READ(inode, i_sb), s_magic) != OVERLAYFS_SUPER_MAGIC ? inode : NULL;
}

/* Filesystems that change the times of a file whenever its bytes change, if nobody had it mapped, or that have no changes. */
static __always_inline bool is_stamped(struct super_block *sb)
{
	switch (READ(sb, s_magic)) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case EROFS_SUPER_MAGIC_V1:
	case SQUASHFS_MAGIC:
		return true;
	default:
		return false;
	}
}

/* Filesystems that no server is behind. */
static __always_inline bool is_local(struct super_block *sb)
{
	unsigned long magic = READ(sb, s_magic);

	return magic == OVERLAYFS_SUPER_MAGIC || magic == TMPFS_MAGIC || is_stamped(sb);
}

/* Somebody has the file mapped and may write to it: only the first write to a page changes the file's times. */
static __always_inline bool is_mapped_for_writing(struct inode *real)
{
	return READ(READ(real, i_mapping), i_mmap_writable.counter) > 0;
}

/* Filesystems that do not tell of writes to a mapping at all. */
static __always_inline bool is_never_stamped(struct inode *real)
{
	unsigned long magic = READ(READ(real, i_sb), s_magic);

	return magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC || magic == RAMFS_MAGIC;
}

/* `inode` is what the path leads to; on an overlay `real` is the inode of the layer, which is ahead with size and times. */
static __always_inline void fill_file(struct inode_facts *facts, struct inode *inode, struct inode *real,
				      struct vfsmount *mount)
{
	facts->stamp.inode = READ(inode, i_ino);
	facts->device = READ(READ(inode, i_sb), s_dev);
	facts->link_count = READ(inode, i_nlink);
	facts->mode = READ(inode, i_mode);
	facts->mount_id = READ(mount_of(mount), mnt_id);
	facts->stamp.size = READ(real, i_size);
	fill_times(&facts->stamp, real);
}

/* The kernel's own mount of shmem, which no path leads to. A name such as "memfd:" can be given to any file. */
static __always_inline bool is_memfd(struct super_block *sb)
{
	unsigned long magic = READ(sb, s_magic);

	return (magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC) && (READ(sb, s_flags) & SB_KERNMOUNT);
}

/*
 * Whether fanotify tells of executions from the mount: it does not of memfds, which have none that can be marked, nor of what
 * was mounted a moment ago. That another watcher is told is not told apart; then the program is opened when its exec is read.
 */
static __always_inline bool is_watched(const struct record_header *header, struct super_block *sb, struct vfsmount *mount)
{
	if (is_memfd(sb))
		return false;
	/* Programs of the host are nobody's concern. */
	if (!host_mnt_namespace || header->mnt_namespace == host_mnt_namespace)
		return true;
	if (!bpf_core_field_exists(sb->s_fsnotify_mask) ||
	    !bpf_core_field_exists(mount_of(mount)->mnt_fsnotify_mask))
		return true;
	return (READ(sb, s_fsnotify_mask) | READ(mount_of(mount), mnt_fsnotify_mask)) & FS_OPEN_EXEC;
}

/* Whether fanotify is not to tell of the file, which is not the same any more. */
static __always_inline bool is_changed(const struct inode_facts *file)
{
#ifdef SINCE_6_14
	struct untold_key key = {
		.inode = file->stamp.inode,
		.device = file->device,
	};
	struct inode_stamp *untold_stamp = bpf_map_lookup_elem(&untold, &key);

	return untold_stamp &&
	       (untold_stamp->size != file->stamp.size || untold_stamp->mtime_sec != file->stamp.mtime_sec ||
		untold_stamp->mtime_nsec != file->stamp.mtime_nsec || untold_stamp->ctime_sec != file->stamp.ctime_sec ||
		untold_stamp->ctime_nsec != file->stamp.ctime_nsec);
#else
	return false;
#endif
}

#endif
