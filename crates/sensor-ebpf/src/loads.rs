//! Library loads: mappings that wait for their exec, the perf buffers of all CPUs for kernels whose mappings cannot be probed,
//! and the bytes behind a mapping.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use model::{Text, Timestamp, event::FileFacts, limits, provenance::MissingReason};
use rustc_hash::FxHashMap;
use rustix::{
    event::epoll,
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags},
};

use crate::{
    bpf, clock,
    content::{self, Content, Delivered, path_of, statx_key, without_deleted},
    decode::{Mapping, PerfRecord, perf_record},
    sys::PerfBuffer,
};

/// Mappings kept back for an exec that is under way: its program, `ld.so`, and room for mappings of an odd ELF file.
const HELD_MAPPINGS_MAX: usize = 16;

/// Longest time that an exec can be under way (it reads the program and `ld.so` from disk).
const HELD_TIME_MAX: Duration = Duration::from_secs(1);

/// Shorter differences between the clocks come from reading one after the other.
const SLEEP_MIN: Duration = Duration::from_millis(100);

/// The buffers of all CPUs.
#[derive(Debug)]
pub(crate) struct PerfBuffers {
    /// By CPU.
    buffers: Vec<(u32, PerfBuffer)>,
    pages: usize,
    /// Time that the machine has slept. CPUs are taken away meanwhile, and their buffers stay silent when they come back.
    slept: Duration,
    bytes: Vec<u8>,
}

impl PerfBuffers {
    /// Opens one buffer per online CPU and adds them to `epoll`.
    pub(crate) fn new(pages: usize, epoll: &OwnedFd) -> io::Result<Self> {
        let buffers = bpf::online_cpus()
            .into_iter()
            .map(|cpu| open_buffer(cpu, pages, epoll));
        Ok(Self {
            buffers: buffers.collect::<io::Result<_>>()?,
            pages,
            slept: clock::slept(),
            bytes: Vec::new(),
        })
    }

    /// Follows CPUs that come and go. What was mapped on one that came is not known for up to a second.
    ///
    /// # Errors
    /// When it is not known which CPUs there are, or the buffer of one cannot be opened; the others are there.
    pub(crate) fn follow_cpus(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        let (online, slept) = (bpf::online_cpus(), clock::slept());
        if online.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Closing takes it out of the epoll, too.
        let has_slept = slept.saturating_sub(self.slept) > SLEEP_MIN;
        self.buffers
            .retain(|(cpu, _)| !has_slept && online.contains(cpu));
        self.slept = slept;
        let mut result = Ok(());
        for cpu in online {
            if self.buffers.iter().any(|(known, _)| *known == cpu) {
                continue;
            }
            match open_buffer(cpu, self.pages, epoll) {
                Ok(buffer) => self.buffers.push(buffer),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Something has arrived.
    pub(crate) fn has_records(&self) -> bool {
        self.buffers.iter().any(|(_, buffer)| buffer.has_records())
    }

    /// Hands over everything that has arrived. Returns how many records could not be decoded.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(PerfRecord)) -> u64 {
        let mut undecodable = 0;
        for (_, buffer) in &self.buffers {
            self.bytes.clear();
            buffer.drain(&mut self.bytes);
            let mut rest = self.bytes.as_slice();
            // `perf_event_header` is 8 bytes; its last two are the record's size.
            while let Some([_, _, _, _, _, _, low, high]) = rest.first_chunk() {
                let size = usize::from(u16::from_ne_bytes([*low, *high]));
                let Some((record, after)) = rest.split_at_checked(size.max(8)) else {
                    undecodable += 1;
                    break;
                };
                rest = after;
                match perf_record(record) {
                    Ok(PerfRecord::Other) => {}
                    Ok(record) => take(record),
                    Err(_) => undecodable += 1,
                }
            }
        }
        undecodable
    }
}

/// Mappings that wait for their exec, by process.
#[derive(Debug, Default)]
pub(crate) struct Held(FxHashMap<u32, HeldMappings>);

#[derive(Debug)]
struct HeldMappings {
    since: Instant,
    mappings: Vec<Mapping>,
}

impl Held {
    /// An exec of `pid` is under way: the loads that follow are of an image whose exec is not reported yet.
    pub(crate) fn hold(&mut self, pid: u32, now: Instant) {
        if self.0.len() < limits::PROCESSES_MAX {
            self.0.entry(pid).or_insert_with(|| HeldMappings {
                since: now,
                mappings: Vec::new(),
            });
        }
    }

    /// Keeps a mapping back when it has to wait. Gives it back when it may go now.
    pub(crate) fn or_hold(&mut self, mapping: Mapping) -> Option<Mapping> {
        match self.0.get_mut(&mapping.pid) {
            Some(held) if held.mappings.len() < HELD_MAPPINGS_MAX => {
                held.mappings.push(mapping);
                None
            }
            _ => Some(mapping),
        }
    }

    /// The exec of `pid` was reported, or it ended.
    pub(crate) fn release(&mut self, pid: u32) -> Vec<Mapping> {
        self.0
            .remove(&pid)
            .map(|held| held.mappings)
            .unwrap_or_default()
    }

    /// Mappings whose exec never came (it was lost).
    pub(crate) fn release_expired(&mut self, now: Instant) -> Vec<Mapping> {
        self.0
            .extract_if(|_, held| now.duration_since(held.since) > HELD_TIME_MAX)
            .flat_map(|(_, held)| held.mappings)
            .collect()
    }
}

fn open_buffer(cpu: u32, pages: usize, epoll: &OwnedFd) -> io::Result<(u32, PerfBuffer)> {
    let buffer = PerfBuffer::open(cpu, pages)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(epoll, &buffer, data, epoll::EventFlags::IN)?;
    Ok((cpu, buffer))
}

/// The root directory that a process sees, and what was found in it. It keeps a container's mounts: not to be kept itself once
/// the process has ended, nor while nothing happens.
#[derive(Debug)]
pub(crate) struct Root {
    pid: u32,
    directory: OwnedFd,
    /// The process may see another one by now.
    is_old: bool,
    /// Libraries by path: the mapping's device and inode number, and what is there. For one round of the reader, all of whose
    /// mappings were made before it looks.
    found: HashMap<Text, (u64, u64, Statx)>,
}

impl Root {
    /// The one of a process.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let directory = proc_reader::open(pid, "root", OFlags::PATH)?;
        Some(Self {
            pid,
            directory,
            is_old: false,
            found: HashMap::new(),
        })
    }

    /// A round is over.
    pub(crate) fn grow_old(&mut self) {
        self.is_old = true;
        self.found.clear();
    }

    /// What an earlier mapping of the same file found, when its bytes were handed over before.
    fn found(&self, mapping: &Mapping, delivered: &mut Delivered) -> Option<Content> {
        let (device, inode, stat) = self.found.get(&mapping.path)?;
        let is_same = (*device, *inode) == (mapping.device, mapping.inode);
        (is_same && delivered.contains(&statx_key(stat))).then(|| known(stat))
    }

    /// What has the mapping's name, and whether it is the mapped file.
    fn look_for(&mut self, mapping: &Mapping) -> Option<(OwnedFd, Statx, bool)> {
        let look = |root: &Self| {
            let path = path_in(root.directory.as_fd(), mapping.path.as_bytes())?;
            let stat = regular_file(&path)?;
            let is_mapped = is_mapped_file(mapping, &stat, &path);
            Some((path, stat, is_mapped))
        };
        let seen = look(self);
        if !self.is_old || matches!(seen, Some((.., true))) {
            return seen;
        }
        *self = Self::of(self.pid)?;
        look(self)
    }
}

/// The bytes behind a mapping that was made at `time`: what the kernel has mapped there, as long as the process lives, or what
/// is found under its path in `root`.
///
/// In this order, since what has the same name and inode number may be another file by now.
pub(crate) fn content(
    mapping: &Mapping,
    time: Timestamp,
    has_ended: bool,
    root: Option<&mut Root>,
    delivered: &mut Delivered,
) -> Option<Content> {
    let is_unsettled = is_unsettled(mapping);
    if has_ended
        && !is_unsettled
        && let Some(root) = &root
        && let Some(content) = root.found(mapping, delivered)
    {
        return Some(content);
    }
    let mapped = || {
        if has_ended {
            return None;
        }
        let (start, end) = (mapping.address_start, mapping.address_end);
        proc_reader::open(
            mapping.pid,
            &format!("map_files/{start:x}-{end:x}"),
            OFlags::PATH,
        )
    };
    if mapping.inode == 0 {
        let path = mapped()?;
        return open(&path, &regular_file(&path)?, is_unsettled, delivered);
    }
    let mut others = Vec::new();
    if let Some(path) = mapped()
        && let Some(stat) = regular_file(&path)
    {
        if is_mapped_file(mapping, &stat, &path) {
            return open(&path, &stat, is_unsettled, delivered);
        }
        others.push((path, stat));
    }
    if let Some(root) = root
        && let Some((path, stat, is_mapped)) = root.look_for(mapping)
    {
        if is_mapped {
            let found = (mapping.device, mapping.inode, stat);
            root.found.insert(mapping.path.clone(), found);
            return open(&path, &stat, is_unsettled, delivered);
        }
        others.push((path, stat));
    }
    // Before Linux 6.18 the kernel tells the inode of the layer that an overlay has the file in, and `stat` that of the image's
    // layer for one that was copied up. Then its name has to do, if nothing has happened to it since: ctime cannot be set.
    let (path, stat) = others.iter().find(|(path, stat)| {
        i64::try_from(time.0).is_ok_and(|time| statx_key(stat).ctime_ns <= time)
            && is_overlay(path)
            && path_of(path, stat.stx_nlink) == mapping.path
    })?;
    open(path, stat, is_unsettled, delivered)
}

fn is_unsettled(mapping: &Mapping) -> bool {
    let seen = mapping.seen.as_ref();
    seen.is_some_and(|seen| seen.is_unsettled)
}

/// Finds a path the way a process sees it. The path is the container's choice: it must not lead out.
fn path_in(root: BorrowedFd<'_>, path: &[u8]) -> Option<OwnedFd> {
    rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()
}

/// What an `O_PATH` descriptor leads to, if it can be opened: a fifo or device would block.
pub(crate) fn regular_file(path: &OwnedFd) -> Option<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(path, c"", AtFlags::EMPTY_PATH, mask).ok()?;
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    (kind == FileType::RegularFile).then_some(stat)
}

/// On an overlay whose layers lie on several filesystems, `stat` gives other device numbers than the superblock has.
fn is_mapped_file(mapping: &Mapping, stat: &Statx, path: &OwnedFd) -> bool {
    let key = statx_key(stat);
    let real_inode = mapping.seen.as_ref().map(|seen| seen.real_inode);
    (key.inode == mapping.inode && key.device == mapping.device)
        || ((key.inode == mapping.inode || Some(key.inode) == real_inode) && is_overlay(path))
}

/// Opens what an `O_PATH` descriptor leads to, if its bytes are wanted. `is_unsettled`: they may have changed under a known key.
pub(crate) fn open(
    path: &OwnedFd,
    stat: &Statx,
    is_unsettled: bool,
    delivered: &mut Delivered,
) -> Option<Content> {
    if !is_unsettled && delivered.contains(&statx_key(stat)) {
        return Some(known(stat));
    }
    let magic = format!("/proc/self/fd/{}", path.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(magic, flags, Mode::empty()).ok()?;
    let mut content = if is_unsettled {
        delivered.unsettled(fd)?
    } else {
        delivered.content(fd)?
    };
    content.mount_id = mount_id(stat);
    Some(content)
}

/// What a descriptor leads to that was opened when the file was mapped, if that was it.
pub(crate) fn opened(
    mapping: &Mapping,
    path: &OwnedFd,
    delivered: &mut Delivered,
) -> Option<Content> {
    let stat = regular_file(path)?;
    let is_unsettled = is_unsettled(mapping);
    is_mapped_file(mapping, &stat, path).then(|| open(path, &stat, is_unsettled, delivered))?
}

fn known(stat: &Statx) -> Content {
    Content {
        mount_id: mount_id(stat),
        ..Content::known(statx_key(stat), stat.stx_nlink)
    }
}

fn mount_id(stat: &Statx) -> u32 {
    u32::try_from(stat.stx_mnt_id).unwrap_or_default()
}

fn is_overlay(path: &OwnedFd) -> bool {
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    rustix::fs::fstatfs(path).is_ok_and(|stat| stat.f_type == OVERLAYFS_SUPER_MAGIC)
}

/// The facts of a mapping that was made at `time`, whose path this is, and of what was found behind it.
pub(crate) fn facts(
    mapping: &Mapping,
    path: Text,
    time: Timestamp,
    content: Option<&Content>,
) -> FileFacts {
    let missing = match content {
        None => Some(MissingReason::ProcessGone),
        Some(content) => content.is_overload.then_some(MissingReason::Overload),
    };
    if let Some(seen) = &mapping.seen {
        let key = content.map_or(seen.key, |content| {
            content::key_then(content.key, Some(seen.key), time)
        });
        return FileFacts {
            path,
            path_truncated: seen.path_truncated,
            key: Some(key),
            link_count: seen.link_count,
            mount_id: seen.mount_id,
            filesystem: seen.filesystem.clone(),
            is_memfd: seen.is_memfd,
            is_unsettled: seen.is_unsettled,
            missing,
        };
    }
    let link_count = content.map_or(0, |content| content.link_count);
    FileFacts {
        path_truncated: mapping.inode == 0 || path.as_bytes().len() >= limits::PATH_BYTES_MAX,
        path: without_deleted(path, link_count),
        key: content.map(|content| content.key),
        link_count,
        mount_id: content.map_or(0, |content| content.mount_id),
        missing,
        ..FileFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, time::SystemTime};

    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    use super::*;

    #[test]
    fn a_cpu_that_comes_gets_a_buffer() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut loads = PerfBuffers::new(512, &epoll).unwrap();
        let maps_of_a_child = |loads: &mut PerfBuffers| {
            let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
            child.wait().unwrap();
            let mut count = 0;
            loads.drain(|record| {
                count += usize::from(
                    matches!(record, PerfRecord::Mapping(mapping) if mapping.pid == child.id()),
                );
            });
            count
        };
        loads.buffers.clear();
        assert_eq!(maps_of_a_child(&mut loads), 0);
        loads.follow_cpus(&epoll).unwrap();
        assert!(maps_of_a_child(&mut loads) > 0);
    }

    #[test]
    fn a_file_that_was_copied_up_is_found_by_the_inode_of_either_layer() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for name in ["lower", "upper", "work", "root"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("lower/library"), "as shipped").unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            at("lower").display(),
            at("upper").display(),
            at("work").display()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount(
            "overlay",
            at("root"),
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        fs::write(at("root/library"), "patched").unwrap();
        let mut root = Root::of(std::process::id()).unwrap();
        let mut read = |seen: &std::path::Path, time: SystemTime| {
            let seen = fs::metadata(seen).unwrap();
            let mapping = Mapping {
                // Nobody's: only the path is left.
                pid: u32::MAX,
                boot_ns: 0,
                address_start: 0,
                address_end: 0,
                device: seen.dev(),
                inode: seen.ino(),
                path: Text::from(at("root/library").to_str().unwrap()),
                seen: None,
            };
            content(
                &mapping,
                time.into(),
                false,
                Some(&mut root),
                &mut Delivered::new(),
            )
            .map(|content| content.key.size)
        };
        let after = SystemTime::now() + Duration::from_secs(1);
        let before = SystemTime::now() - Duration::from_secs(60);
        let found = [
            read(&at("root/library"), after),
            read(&at("upper/library"), after),
            // It was another file then.
            read(&at("upper/library"), before),
        ];
        unmount(at("root"), UnmountFlags::empty()).unwrap();
        assert_eq!(found, [Some(7), Some(7), None]);
    }
}
