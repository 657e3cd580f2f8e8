//! What is remembered of each container: its image, and the mounts of its mount namespaces.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use model::{
    Timestamp,
    enriched::Container,
    event::FileFacts,
    limits::{CONTAINERS_MAX, LINEAGE_MAX, MOUNT_TABLES_BYTES_MAX},
    mountinfo::Mount,
    provenance::UnknownReason,
};

use rustix::fs::{Mode, OFlags, fstat};

use crate::{
    proc,
    provenance::{
        Image, MountTable, RootFs, on_host, open_below, overlay_on_host, read_mounts, strip_prefix,
    },
    weighted::WeightedCache,
};

/// Mount tables remembered. The bound by bytes is the one that counts.
const MOUNT_TABLES_MAX: usize = 4 * CONTAINERS_MAX;

/// Times that one namespace's mounts are read in [`READS_PERIOD`]: a container that mounts all the time costs no more.
const READS_MAX: u32 = 50;
const READS_PERIOD: Duration = Duration::from_secs(1);

/// Processes asked for the mounts of a namespace: the one that needs them, and some that it comes from.
const ASKED_MAX: usize = 8;

/// One container.
struct ContainerState {
    /// Names it, with this root, for as long as it is remembered.
    number: u64,
    /// The mount that `root` was read from, when that was seen in the container itself.
    mount: Option<Mount>,
    root: Arc<RootFs>,
}

/// See the module.
pub(crate) struct ContainerStates {
    host_root: PathBuf,
    /// Device and inode of the host's root directory.
    host_directory: Option<(u64, u64)>,
    /// The host's own root mount: the root of a process that its engine has not yet moved into the container's.
    host_mount: Option<Mount>,
    states: WeightedCache<String, ContainerState>,
    tables: WeightedCache<(u64, u32), Table>,
    next: u64,
}

struct Table {
    mounts: Arc<MountTable>,
    /// The process that it was read from.
    pid: u32,
    /// They may be others by now.
    is_doubted: bool,
    /// Readings since that time.
    reads: u32,
    since: Instant,
}

/// What was seen of a container.
pub(crate) struct Seen<'a> {
    pub(crate) time: Timestamp,
    /// A file that one of its processes had open.
    pub(crate) file: &'a FileFacts,
    /// It is still open here.
    pub(crate) is_open: bool,
}

/// Something that a person should know about a container, once.
pub(crate) struct NotCovered(pub(crate) String);

impl ContainerStates {
    pub(crate) fn new(host_root: PathBuf) -> Self {
        Self {
            host_root,
            host_directory: proc::root_directory(1)
                .or_else(|| proc::root_directory(std::process::id())),
            host_mount: read_mounts(std::process::id()).and_then(|mounts| mounts.root().cloned()),
            states: WeightedCache::new(CONTAINERS_MAX, usize::MAX),
            tables: WeightedCache::new(MOUNT_TABLES_MAX, MOUNT_TABLES_BYTES_MAX),
            next: 0,
        }
    }

    /// Looks again at a container that something was started in from outside: after a restart its root is another mount,
    /// and runc's names may be used again for another image.
    pub(crate) fn check(
        &mut self,
        container: &Container,
        pid: u32,
        mnt_namespace: u32,
        host_mnt_namespace: u32,
    ) {
        let Some(state) = self.states.get(&container.id) else {
            return;
        };
        if let Some(table) = self.tables.get_mut(&(state.number, mnt_namespace)) {
            table.is_doubted = true;
        }
        let mounts = read_mounts(first_process(pid, host_mnt_namespace, self.host_directory));
        if mounts.is_some_and(|mounts| mounts.root() != state.mount.as_ref()) {
            self.states.remove(&container.id);
        }
    }

    /// The number and root of a container, found with the help of `pid`, one of its processes, or of what was seen of it
    /// when that is gone.
    pub(crate) fn get(
        &mut self,
        container: &Container,
        pid: u32,
        host_mnt_namespace: u32,
        seen: &Seen<'_>,
    ) -> (u64, Arc<RootFs>, Option<NotCovered>) {
        if let Some(state) = self.states.get(&container.id)
            && state.mount.is_some()
        {
            return (state.number, Arc::clone(&state.root), None);
        }
        let first = first_process(pid, host_mnt_namespace, self.host_directory);
        // Engines run themselves in the container's namespaces before they change its root: too early to know its image.
        let is_inside = |mounts: &MountTable| {
            let at = |mount: &Mount| (mount.device, mount.root.clone());
            mounts.root().map(at) != self.host_mount.as_ref().map(at)
        };
        let mounts = read_mounts(first)
            .filter(is_inside)
            .or_else(|| read_mounts(pid).filter(is_inside));
        let root = match mounts.as_ref().and_then(MountTable::root) {
            Some(root) => RootFs::new(root, &self.host_root, seen.time),
            None => {
                if let Some(state) = self.states.get(&container.id)
                    && !matches!(state.root.image, Image::None(_))
                {
                    return (state.number, Arc::clone(&state.root), None);
                }
                match self.overlay_of(seen) {
                    Some(overlay) => RootFs::new(&overlay, &self.host_root, seen.time),
                    None => RootFs::unknown(UnknownReason::ContainerGone),
                }
            }
        };
        let not_covered = matches!(root.image, Image::None(UnknownReason::NoImage)).then(|| {
            NotCovered(format!(
                "Container {} has its root on {}, and no copy of its image was found: what runs in it is hashed, but \
                 cannot be told apart as built in, modified or added.",
                container.name, root.filesystem
            ))
        });
        self.next += 1;
        let root = Arc::new(root);
        let state = ContainerState {
            number: self.next,
            mount: mounts.and_then(|mounts| mounts.root().cloned()),
            root: Arc::clone(&root),
        };
        self.states.put(container.id.clone(), state, 0);
        (self.next, root, not_covered)
    }

    /// The engine's own mount of a container's root: an overlay with the device number of a file that ran in it.
    ///
    /// The number is used again once the overlay is unmounted everywhere. An open file keeps that from happening; without one
    /// the overlay must show that very file at its path.
    fn overlay_of(&self, seen: &Seen<'_>) -> Option<Mount> {
        let facts = seen.file;
        let key = facts.key?;
        let is_hosts = self.host_mount.as_ref().map(|mount| mount.device) == Some(key.device);
        if is_hosts || facts.is_memfd {
            return None;
        }
        let mount = overlay_on_host(key.device)?;
        if seen.is_open {
            return Some(mount);
        }
        let on_host = on_host(mount.mountpoint.as_bytes(), &self.host_root);
        let root = rustix::fs::open(on_host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let file = open_below(&root, facts.path.as_bytes())?;
        (proc::key_of(&fstat(&file).ok()?) == key).then_some(mount)
    }

    /// The mounts of a namespace of a container, in which the file's mount can be found if at all. Read again from
    /// the first of `pids` that is in the namespace when the mount is not in the table, or cannot be the one that is; from the
    /// process that was asked before when those have ended.
    pub(crate) fn mounts(
        &mut self,
        number: u64,
        mnt_namespace: u32,
        pids: impl Iterator<Item = u32>,
        facts: &FileFacts,
    ) -> Option<Arc<MountTable>> {
        let key = (number, mnt_namespace);
        let (mut reads, mut since) = (0, Instant::now());
        let mut asked_before = None;
        if let Some(table) = self.tables.get(&key) {
            if table.since.elapsed() < READS_PERIOD {
                (reads, since) = (table.reads, table.since);
            }
            if !table.is_doubted && (is_found(&table.mounts, facts) || reads >= READS_MAX) {
                return Some(Arc::clone(&table.mounts));
            }
            asked_before = Some(table.pid);
        }
        // Without its number nobody but the process itself is known to be in the namespace.
        let is_known = mnt_namespace != 0;
        let is_in = |pid| !is_known || proc_reader::namespace(pid, "mnt") == Some(mnt_namespace);
        let read = |pid| {
            let mounts = is_in(pid).then(|| read_mounts(pid))?;
            mounts.map(|mounts| (pid, Arc::new(mounts)))
        };
        let asked = pids.take(if is_known { ASKED_MAX } else { 1 });
        let (pid, mounts) = match asked
            .chain(asked_before.filter(|_| is_known))
            .find_map(read)
        {
            Some(found) => found,
            // Asking in vain counts too.
            None => {
                let table = self.tables.get(&key).filter(|table| !table.is_doubted)?;
                (table.pid, Arc::clone(&table.mounts))
            }
        };
        let table = Table {
            mounts: Arc::clone(&mounts),
            pid,
            is_doubted: false,
            reads: reads + 1,
            since,
        };
        self.tables.put(key, table, mounts.weight());
        Some(mounts)
    }
}

/// The table has the file's mount.
fn is_found(mounts: &MountTable, facts: &FileFacts) -> bool {
    match facts.mount_id {
        _ if facts.is_memfd => true,
        0 => true,
        id => mounts
            .by_id(id)
            .is_some_and(|mount| is_consistent(mount, facts)),
    }
}

/// Mount ids are used again. On btrfs, and on an overlay over several filesystems, files have other device numbers than
/// the mount.
fn is_consistent(mount: &Mount, facts: &FileFacts) -> bool {
    let name = facts.filesystem.as_bytes();
    (name.is_empty() || facts.filesystem == mount.filesystem)
        && strip_prefix(facts.path.as_bytes(), mount.mountpoint.as_bytes()).is_some()
        && (matches!(mount.filesystem.as_bytes(), b"overlay" | b"btrfs")
            || facts.key.is_none_or(|key| key.device == mount.device))
}

/// The topmost process above `pid` in the same control group that is not in the host's mount namespace, nor has the host's
/// root in another one, as rootless engines have: the one that the engine started. A process further down may have made
/// itself another root, from which its files would look like an image's.
fn first_process(pid: u32, host_mnt_namespace: u32, host_directory: Option<(u64, u64)>) -> u32 {
    let Some(cgroup) = proc::read_small(&format!("/proc/{pid}/cgroup")) else {
        return pid;
    };
    let mut first = pid;
    for _ in 0..LINEAGE_MAX {
        let Some((parent, _)) = proc::parent_and_start(first) else {
            break;
        };
        let is_inside = parent != 0
            && proc::read_small(&format!("/proc/{parent}/cgroup")).as_ref() == Some(&cgroup)
            && proc_reader::namespace(parent, "mnt")
                .is_some_and(|namespace| namespace != host_mnt_namespace)
            && (host_directory.is_none() || proc::root_directory(parent) != host_directory);
        if !is_inside {
            break;
        }
        first = parent;
    }
    first
}
