//! System calls that no safe crate offers: fanotify, perf events and mappings.

#![expect(unsafe_code, reason = "raw system calls and a shared memory ring")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering},
};

/// Creates a fanotify group that reports descriptors, without limits on queue and marks (needs CAP_SYS_ADMIN).
pub(crate) fn fanotify_init() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_UNLIMITED_QUEUE
        | libc::FAN_UNLIMITED_MARKS;
    let event_flags = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::fanotify_init(flags, event_flags.cast_unsigned()) };
    own(fd)
}

/// What a mark covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every mount of the superblock, in every mount namespace.
    Filesystem,
    /// One mount.
    Mount,
}

/// Adds or removes a mark for `FAN_OPEN_EXEC` on what `target` refers to; it may be an `O_PATH` descriptor.
pub(crate) fn fanotify_mark(
    group: impl AsFd,
    add: bool,
    scope: Scope,
    target: impl AsFd,
) -> io::Result<()> {
    let flags = match scope {
        Scope::Filesystem => libc::FAN_MARK_FILESYSTEM,
        Scope::Mount => libc::FAN_MARK_MOUNT,
    } | if add {
        libc::FAN_MARK_ADD
    } else {
        libc::FAN_MARK_REMOVE
    };
    // fanotify_mark refuses O_PATH descriptors, but follows the magic link to one.
    let path = format!("/proc/self/fd/{}\0", target.as_fd().as_raw_fd());
    // SAFETY: `path` ends with NUL and lives until the call returns; the kernel only reads it.
    let result = unsafe {
        libc::fanotify_mark(
            group.as_fd().as_raw_fd(),
            flags,
            libc::FAN_OPEN_EXEC,
            libc::AT_FDCWD,
            path.as_ptr().cast(),
        )
    };
    done(result)
}

/// Has fanotify not tell of `FAN_OPEN_EXEC` of one file, until it is written to or the kernel forgets its inode.
pub(crate) fn fanotify_ignore(group: impl AsFd, file: impl AsFd) -> io::Result<()> {
    /// Since Linux 5.19: the mark does not keep the inode in memory.
    const FAN_MARK_EVICTABLE: libc::c_uint = 0x200;
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORED_MASK | FAN_MARK_EVICTABLE;
    // SAFETY: without a path it is the file of the descriptor that is meant; no pointers are passed.
    let result = unsafe {
        libc::fanotify_mark(
            group.as_fd().as_raw_fd(),
            flags,
            libc::FAN_OPEN_EXEC,
            file.as_fd().as_raw_fd(),
            std::ptr::null(),
        )
    };
    done(result)
}

/// Takes back all that [`fanotify_ignore`] did.
pub(crate) fn fanotify_ignore_none(group: impl AsFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let result = unsafe {
        libc::fanotify_mark(
            group.as_fd().as_raw_fd(),
            libc::FAN_MARK_FLUSH,
            0,
            libc::AT_FDCWD,
            std::ptr::null(),
        )
    };
    done(result)
}

/// Takes ownership of a descriptor that the kernel has just put into an event read by this process.
pub(crate) fn own_event_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller got the number from a fanotify event, which transfers the descriptor to the reader; each event
    // is decoded once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Puts the calling thread ahead of all ordinary ones (SCHED_RR, lowest real-time priority).
pub(crate) fn run_ahead() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; the structure is valid and only read.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    done(result)
}

/// How a file comes to be mapped executable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MapWay {
    Mmap,
    Mprotect,
}

/// Maps the first page of a file executable, and takes the mapping away.
pub(crate) fn map_executable(file: impl AsFd, way: MapWay) -> io::Result<()> {
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};
    let bytes = rustix::param::page_size();
    let protection = match way {
        MapWay::Mmap => ProtFlags::READ | ProtFlags::EXEC,
        MapWay::Mprotect => ProtFlags::READ,
    };
    // SAFETY: a new mapping at an address of the kernel's choice; it replaces nothing, and nothing of it is read or run.
    let page = unsafe {
        mmap(
            std::ptr::null_mut(),
            bytes,
            protection,
            MapFlags::PRIVATE,
            file,
            0,
        )
    }?;
    let protected = match way {
        MapWay::Mmap => Ok(()),
        // SAFETY: exactly the mapping made above.
        MapWay::Mprotect => unsafe {
            mprotect(page, bytes, MprotectFlags::READ | MprotectFlags::EXEC)
        },
    };
    // SAFETY: likewise; nothing borrows from it.
    unsafe { munmap(page, bytes) }?;
    Ok(protected?)
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a system call has just returned this descriptor, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct perf_event_attr` up to PERF_ATTR_SIZE_VER5 (Linux 4.1).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_watermark: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 112);

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const PERF_SAMPLE_TID: u64 = 1 << 1;
const PERF_SAMPLE_TIME: u64 = 1 << 2;
const ATTR_MMAP: u64 = 1 << 8;
const ATTR_COMM: u64 = 1 << 9;
const ATTR_WATERMARK: u64 = 1 << 14;
const ATTR_SAMPLE_ID_ALL: u64 = 1 << 18;
const ATTR_MMAP2: u64 = 1 << 23;
const ATTR_COMM_EXEC: u64 = 1 << 24;
const ATTR_USE_CLOCKID: u64 = 1 << 25;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

/// Offsets in `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// One CPU's buffer of executable mappings and exec marks, of all processes.
#[derive(Debug)]
pub(crate) struct PerfBuffer {
    fd: OwnedFd,
    base: *mut u8,
    page_bytes: usize,
    data_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for PerfBuffer {}

impl PerfBuffer {
    /// Opens the event of `cpu` with a buffer of `pages` pages, a power of two.
    ///
    /// It wakes a waiter when a quarter is full. Woken for each record the kernel sends its own CPU an interrupt for each
    /// mapping: 5 of the 430 microseconds that an exec of `/bin/true` takes.
    pub(crate) fn open(cpu: u32, pages: usize) -> io::Result<Self> {
        let page_bytes = rustix::param::page_size();
        let data_bytes = pages * page_bytes;
        let attr = PerfEventAttr {
            kind: PERF_TYPE_SOFTWARE,
            size: 112,
            config: PERF_COUNT_SW_DUMMY,
            sample_type: PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
            flags: ATTR_MMAP
                | ATTR_COMM
                | ATTR_WATERMARK
                | ATTR_SAMPLE_ID_ALL
                | ATTR_MMAP2
                | ATTR_COMM_EXEC
                | ATTR_USE_CLOCKID,
            wakeup_watermark: u32::try_from(data_bytes / 4).unwrap_or(1),
            clockid: libc::CLOCK_BOOTTIME,
            ..PerfEventAttr::default()
        };
        // SAFETY: `attr` is a valid structure of the size it names, and is only read.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                -1,
                cpu,
                -1,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        let fd = own(RawFd::try_from(fd).unwrap_or(-1))?;
        // SAFETY: a new mapping at an address of the kernel's choice; it replaces nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                page_bytes + data_bytes,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &fd,
                0,
            )
        }?;
        Ok(Self {
            fd,
            base: base.cast(),
            page_bytes,
            data_bytes,
        })
    }

    /// Something has arrived since the last [`Self::drain`].
    pub(crate) fn has_records(&self) -> bool {
        self.counter(DATA_HEAD).load(Ordering::Acquire)
            != self.counter(DATA_TAIL).load(Ordering::Relaxed)
    }

    /// Copies what has arrived to the end of `out`, and gives its room back to the kernel.
    pub(crate) fn drain(&self, out: &mut Vec<u8>) {
        let head = self.counter(DATA_HEAD).load(Ordering::Acquire);
        let tail = self.counter(DATA_TAIL).load(Ordering::Relaxed);
        let length = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        let length = length.min(self.data_bytes);
        let start = usize::try_from(tail % self.data_bytes as u64).unwrap_or_default();
        let first = length.min(self.data_bytes - start);
        for (offset, count) in [(start, first), (0, length - first)] {
            // SAFETY: `offset + count` lies within the data area behind the first page, which stays mapped while `self`
            // lives.
            let data = unsafe { self.base.add(self.page_bytes + offset) };
            // SAFETY: the same area; the kernel does not write between tail and head until tail moves.
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(data, count) });
        }
        self.counter(DATA_TAIL).store(head, Ordering::Release);
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie within the first page of the mapping.
        let counter = unsafe { self.base.add(offset) };
        // SAFETY: the offsets are multiples of 8, and the kernel accesses these words atomically.
        unsafe { AtomicU64::from_ptr(counter.cast()) }
    }
}

impl Drop for PerfBuffer {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made by `open`; nothing borrows from it any more.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.page_bytes + self.data_bytes) };
    }
}

impl AsFd for PerfBuffer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
