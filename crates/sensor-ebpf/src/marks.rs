//! Which mounts fanotify watches: every overlay that the host sees, and every mount of every container.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use model::{
    Text, limits,
    mountinfo::{Mount, mountinfo},
};
use rustc_hash::FxHashMap;
use rustix::{
    event::epoll,
    fs::{Mode, OFlags, ResolveFlags, StatxFlags},
};

use crate::{
    clock::{self, boot_ns},
    content::UNASKED,
    sys::{self, Scope},
};

/// Reading mount tables of one namespace takes at most one in so many parts of the reader's time, so that whoever mounts
/// in a loop does not keep it busy ...
const SCAN_SHARE: u32 = 10;

/// ... after this much to begin with: a container's start changes its table many times within a few milliseconds.
const SCAN_AHEAD_MAX: Duration = Duration::from_secs(1);

/// Mounts from which programs can be executed that a container has at most as a rule.
const ORDINARY_MOUNTS: usize = 64;

/// Filesystems of which nothing can be executed.
const NOT_EXECUTABLE: &[&[u8]] = &[
    b"proc",
    b"sysfs",
    b"cgroup",
    b"cgroup2",
    b"devpts",
    b"mqueue",
    b"securityfs",
    b"debugfs",
    b"tracefs",
    b"bpf",
    b"pstore",
    b"configfs",
    b"efivarfs",
    b"binfmt_misc",
    b"fusectl",
    b"nsfs",
    b"autofs",
    b"rpc_pipefs",
];

/// A mount namespace whose mount table is watched.
#[derive(Debug)]
struct Namespace {
    /// A process in it. Its `/proc` directory is the way in.
    pid: u32,
    /// Polled for changes; holds the namespace, so it is closed as soon as `pid` ends.
    table: OwnedFd,
    /// By mount id.
    mounts: FxHashMap<u32, Known>,
    /// When the time spent on reading the table will be worn off. See [`SCAN_AHEAD_MAX`].
    worn_off: Instant,
    is_changed: bool,
    /// `pid` is gone. Records from before its end may still need the table.
    has_ended: bool,
}

/// What is remembered of a mount: not its paths, which may have thousands of bytes each.
#[derive(Debug)]
struct Known {
    device: u64,
    /// Stands for the path of what is mounted.
    root: u64,
    filesystem: Text,
    /// Since when it is watched (CLOCK_BOOTTIME).
    since: Option<u64>,
}

impl Known {
    fn new(mount: &Mount, since: Option<u64>) -> Self {
        Self {
            device: mount.device,
            root: hash(&mount.root),
            filesystem: mount.filesystem.clone(),
            since,
        }
    }

    /// Ids are reused, so what is mounted is compared, too; but not where: `pivot_root` moves all of a container's mounts
    /// right before its first exec.
    fn is(&self, mount: &Mount) -> bool {
        (self.device, self.root) == (mount.device, hash(&mount.root))
    }
}

fn hash(path: &Text) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

impl Namespace {
    fn is_due(&self, now: Instant) -> bool {
        self.worn_off <= now + SCAN_AHEAD_MAX
    }

    fn spent(&mut self, now: Instant, time: Duration) {
        self.worn_off = self.worn_off.max(now) + SCAN_SHARE * time;
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Marks {
    group: OwnedFd,
    epolls: [OwnedFd; 2],
    host: Namespace,
    host_mnt_namespace: u32,
    /// Superblocks that the host has mounted outside of overlays: only single mounts of them are a container's.
    host_devices: HashSet<u64>,
    namespaces: FxHashMap<u32, Namespace>,
    /// Superblocks that are watched in all namespaces, and since when (CLOCK_BOOTTIME).
    superblocks: FxHashMap<u64, u64>,
    /// Namespaces of the host's services, and a process in each: once it has ended, the number may be a container's.
    ignored: FxHashMap<u32, u32>,
    /// Mounts that could not be watched, since the start.
    failures: u64,
}

/// Epoll data of the mount tables: this plus the namespace's number.
pub(crate) const TOKEN_MOUNTS: u64 = 1 << 32;

impl Marks {
    /// Marks what the host sees. Each of `epolls` gets the mount tables to wait for, and the first that is asked has the event.
    pub(crate) fn new(group: OwnedFd, epolls: [OwnedFd; 2]) -> io::Result<Self> {
        let (pid, host_mnt_namespace) = host()?;
        let host = open_namespace(pid)?;
        watch_table(&epolls, &host.table, host_mnt_namespace)?;
        let mut marks = Self {
            group,
            epolls,
            host,
            host_mnt_namespace,
            host_devices: HashSet::new(),
            namespaces: FxHashMap::default(),
            superblocks: FxHashMap::default(),
            ignored: FxHashMap::default(),
            failures: 0,
        };
        marks.scan_host(Instant::now());
        Ok(marks)
    }

    pub(crate) fn group(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    pub(crate) fn host_mnt_namespace(&self) -> u32 {
        self.host_mnt_namespace
    }

    /// A process of a mount namespace was seen: watches the namespace's mounts if it is a new one.
    pub(crate) fn saw(&mut self, mnt_namespace: u32, pid: u32, now: Instant) {
        if mnt_namespace == 0
            || mnt_namespace == self.host_mnt_namespace
            || self.is_known(mnt_namespace)
            || self.ignored.contains_key(&mnt_namespace)
            || self.namespaces.len() >= limits::CONTAINERS_MAX
        {
            return;
        }
        // Gone, or has moved on to another namespace: its next process will show.
        let Ok(namespace) = open_namespace(pid) else {
            return;
        };
        if proc_reader::namespace(pid, "mnt") != Some(mnt_namespace)
            || watch_table(&self.epolls, &namespace.table, mnt_namespace).is_err()
        {
            return;
        }
        self.namespaces.insert(mnt_namespace, namespace);
        self.scan(mnt_namespace, now);
    }

    /// The number of a namespace is given to the next one at once: not to be taken for the one before.
    fn is_known(&self, mnt_namespace: u32) -> bool {
        self.namespaces
            .get(&mnt_namespace)
            .is_some_and(|namespace| !namespace.has_ended)
    }

    /// A process is about to be reported as ended.
    pub(crate) fn ends(&mut self, pid: u32, mnt_namespace: u32) {
        if let Some(namespace) = self.namespaces.get_mut(&mnt_namespace)
            && namespace.pid == pid
        {
            namespace.has_ended = true;
        }
    }

    /// An exec used a mount: reads the namespace's table again when the mount is not in it.
    pub(crate) fn used(&mut self, mnt_namespace: u32, mount_id: u32, pid: u32, now: Instant) {
        self.saw(mnt_namespace, pid, now);
        if let Some(namespace) = self.namespaces.get(&mnt_namespace)
            && !namespace.mounts.contains_key(&mount_id)
        {
            self.scan(mnt_namespace, now);
        }
    }

    /// Whether an execution from a mount at that time (CLOCK_BOOTTIME) was reported by fanotify.
    pub(crate) fn is_watched(&self, mnt_namespace: u32, mount_id: u32, boot_ns: u64) -> bool {
        self.namespaces
            .get(&mnt_namespace)
            .and_then(|namespace| namespace.mounts.get(&mount_id))
            .is_some_and(|known| known.since.is_some_and(|since| since < boot_ns))
    }

    /// Name of a mount's filesystem.
    pub(crate) fn filesystem(&self, mnt_namespace: u32, mount_id: u32) -> Option<&Text> {
        self.namespaces
            .get(&mnt_namespace)
            .and_then(|namespace| namespace.mounts.get(&mount_id))
            .map(|known| &known.filesystem)
    }

    /// Mounts that could not be watched, since the start. Programs on them are opened as they begin (see `prompt.rs`).
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// A process that can be used to reach the files of a mount namespace.
    pub(crate) fn anchor(&self, mnt_namespace: u32) -> Option<u32> {
        self.namespaces
            .get(&mnt_namespace)
            .map(|namespace| namespace.pid)
    }

    /// Lets go of namespaces that `pid` was the way into. The next process seen there becomes the new one.
    pub(crate) fn exited(&mut self, pid: u32, mnt_namespace: u32) {
        if self.anchor(mnt_namespace) == Some(pid) {
            self.namespaces.remove(&mnt_namespace);
        }
    }

    /// Lets go of namespaces whose process ended without a trace, and of superblocks that are gone.
    pub(crate) fn expire(&mut self) {
        let is_in = |pid, number| proc_reader::namespace(pid, "mnt") == Some(number);
        self.namespaces
            .retain(|&number, namespace| is_in(namespace.pid, number));
        self.ignored.retain(|&number, pid| is_in(*pid, number));
        let mounted: HashSet<u64> = self
            .namespaces
            .values()
            .chain([&self.host])
            .flat_map(|namespace| namespace.mounts.values())
            .map(|known| known.device)
            .collect();
        self.superblocks
            .retain(|device, _| mounted.contains(device));
    }

    /// A namespace turned out to be the host's (a service with mounts of its own).
    pub(crate) fn ignore(&mut self, number: u32) {
        if number == self.host_mnt_namespace {
            return;
        }
        let Some(namespace) = self.namespaces.remove(&number) else {
            return;
        };
        if self.ignored.len() < limits::CONTAINERS_MAX {
            self.ignored.insert(number, namespace.pid);
        }
        for mount in read_table(namespace.pid) {
            let known = namespace.mounts.get(&mount.id);
            if known.is_some_and(|known| known.since.is_some())
                && scope(&mount, &self.host_devices) == Scope::Mount
            {
                // Only a saving: the events of these mounts are dropped anyway.
                let _ = open_mount(namespace.pid, &mount).and_then(|target| {
                    sys::fanotify_mark(&self.group, false, Scope::Mount, target)
                });
            }
        }
    }

    /// A mount table changed.
    pub(crate) fn changed(&mut self, mnt_namespace: u32) {
        if mnt_namespace == self.host_mnt_namespace {
            self.host.is_changed = true;
        } else if let Some(namespace) = self.namespaces.get_mut(&mnt_namespace) {
            namespace.is_changed = true;
        }
    }

    /// Reads the tables that changed. Returns true when one has to wait.
    pub(crate) fn update(&mut self, now: Instant) -> bool {
        if self.host.is_changed && self.host.is_due(now) {
            self.scan_host(now);
        }
        let due: Vec<u32> = self
            .namespaces
            .iter()
            .filter(|(_, namespace)| namespace.is_changed && namespace.is_due(now))
            .map(|(&number, _)| number)
            .collect();
        for number in due {
            self.scan(number, now);
        }
        self.host.is_changed
            || self
                .namespaces
                .values()
                .any(|namespace| namespace.is_changed)
    }

    fn scan_host(&mut self, now: Instant) {
        let started = clock::thread_time();
        self.host.is_changed = false;
        let mounts = read_table(self.host.pid);
        self.host_devices = mounts
            .iter()
            .filter(|mount| mount.filesystem.as_bytes() != b"overlay")
            .map(|mount| mount.device)
            .collect();
        let mut current = FxHashMap::default();
        for mount in mounts {
            if mount.filesystem.as_bytes() != b"overlay" {
                continue;
            }
            let known = self.host.mounts.get(&mount.id);
            let since = match known {
                Some(known) if known.is(&mount) => known.since,
                _ => mark(&self.group, self.host.pid, &mount, Scope::Filesystem)
                    .ok()
                    .flatten()
                    .map(|since| *self.superblocks.entry(mount.device).or_insert(since)),
            };
            current.insert(mount.id, Known::new(&mount, since));
        }
        self.host.mounts = current;
        self.host
            .spent(now, clock::thread_time().saturating_sub(started));
    }

    fn scan(&mut self, number: u32, now: Instant) {
        let held: usize = self.namespaces.values().map(|of| of.mounts.len()).sum();
        let Some(namespace) = self.namespaces.get_mut(&number) else {
            return;
        };
        let room = room(held - namespace.mounts.len());
        if !namespace.is_due(now) {
            namespace.is_changed = true;
            return;
        }
        let started = clock::thread_time();
        namespace.is_changed = false;
        let (mut current, mut failed) = (FxHashMap::default(), HashSet::new());
        for mount in read_table(namespace.pid) {
            if mount.is_noexec || NOT_EXECUTABLE.contains(&mount.filesystem.as_bytes()) {
                continue;
            }
            if current.len() >= room {
                self.failures += 1;
                continue;
            }
            let scope = scope(&mount, &self.host_devices);
            let since = match namespace.mounts.get(&mount.id) {
                Some(known) if known.since.is_some() && known.is(&mount) => known.since,
                _ => match mark(&self.group, namespace.pid, &mount, scope) {
                    Ok(Some(since)) if scope == Scope::Filesystem => {
                        Some(*self.superblocks.entry(mount.device).or_insert(since))
                    }
                    Ok(since) => since,
                    Err(_) => {
                        failed.insert((mount.id, mount.device));
                        None
                    }
                },
            };
            current.insert(mount.id, Known::new(&mount, since));
        }
        // Short containers end meanwhile, and engines take their own mounts away.
        if !failed.is_empty() {
            let still_there = read_table(namespace.pid)
                .into_iter()
                .filter(|mount| failed.contains(&(mount.id, mount.device)));
            self.failures += still_there.count() as u64;
        }
        namespace.mounts = current;
        namespace.spent(now, clock::thread_time().saturating_sub(started));
    }
}

/// Mounts that a namespace may have, when the others have so many: half of what is free, and in any case what an ordinary
/// container has.
fn room(held_by_others: usize) -> usize {
    let free = limits::MOUNTS_WATCHED_MAX.saturating_sub(held_by_others);
    (free / 2).clamp(ORDINARY_MOUNTS, limits::MOUNTS_PER_NAMESPACE_MAX)
}

/// An overlay or a filesystem that the host does not use is the container's as a whole, and a mark on it also holds in
/// namespaces that the container makes. Of the host's own filesystems only the container's mount may be watched.
fn scope(mount: &Mount, host_devices: &HashSet<u64>) -> Scope {
    if host_devices.contains(&mount.device) {
        Scope::Mount
    } else {
        Scope::Filesystem
    }
}

/// Returns the time, or nothing when another mount covers this one: then nothing can be executed from it.
fn mark(group: &OwnedFd, pid: u32, mount: &Mount, scope: Scope) -> io::Result<Option<u64>> {
    let target = open_mount(pid, mount)?;
    let stat = rustix::fs::statx(&target, c"", UNASKED, StatxFlags::MNT_ID)?;
    if stat.stx_mnt_id != u64::from(mount.id) {
        return Ok(None);
    }
    sys::fanotify_mark(group, true, scope, target)?;
    Ok(Some(boot_ns()))
}

/// Opens a mountpoint the way the process sees it. The path is the container's choice: it must not lead out.
fn open_mount(pid: u32, mount: &Mount) -> io::Result<OwnedFd> {
    let root = proc_reader::open(pid, "root", OFlags::PATH).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::fs::openat2(
        &root,
        mount.mountpoint.as_bytes(),
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?)
}

fn open_namespace(pid: u32) -> io::Result<Namespace> {
    Ok(Namespace {
        pid,
        table: proc_reader::open(pid, "mountinfo", OFlags::RDONLY)
            .ok_or(io::ErrorKind::NotFound)?,
        mounts: FxHashMap::default(),
        worn_off: Instant::now(),
        is_changed: false,
        has_ended: false,
    })
}

fn watch_table(epolls: &[OwnedFd], table: &OwnedFd, number: u32) -> io::Result<()> {
    let data = epoll::EventData::new_u64(TOKEN_MOUNTS | u64::from(number));
    let flags = epoll::EventFlags::PRI | epoll::EventFlags::ERR;
    for epoll in epolls {
        epoll::add(epoll, table, data, flags)?;
    }
    Ok(())
}

/// Opened anew each time: a table shows what is below the root that the process had when it was opened, and container
/// runtimes change that after they have made the mounts.
fn read_table(pid: u32) -> Vec<Mount> {
    let table = proc_reader::read(pid, "mountinfo", limits::MOUNTINFO_BYTES_MAX);
    mountinfo(&table.unwrap_or_default()).collect()
}

/// A process of the host's mount namespace, and that namespace.
///
/// The host is where the first process is. Some environments hide that one even from root; the agent then takes its own
/// view for the host's.
pub(crate) fn host() -> io::Result<(u32, u32)> {
    let own = std::process::id();
    [1, own]
        .into_iter()
        .find_map(|pid| Some((pid, proc_reader::namespace(pid, "mnt")?)))
        .ok_or(io::ErrorKind::NotFound.into())
}

/// How often [`Marks::expire`] is worth its reads.
pub(crate) const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_mounts_much_leaves_room_for_the_next() {
        let mut held = 0;
        for _ in 0..limits::CONTAINERS_MAX {
            let room = room(held);
            let wanted = ORDINARY_MOUNTS..=limits::MOUNTS_PER_NAMESPACE_MAX;
            assert!(wanted.contains(&room), "{room}");
            held += room;
        }
        let bound = limits::MOUNTS_WATCHED_MAX + limits::CONTAINERS_MAX * ORDINARY_MOUNTS;
        assert!(held <= bound, "{held}");
    }
}
