//! A running sensor and everything it has said, for tests to wait on.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{Arc, Mutex, MutexGuard, mpsc::sync_channel},
    time::{Duration, Instant},
};

use model::{
    Text,
    event::{Event, Exec, FileFacts, FileKey, LibraryLoad, Observation, Payload},
    limits,
};
use sensor_ebpf::{Config, Sensors};

/// No test waits longer for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// One observation, its descriptors read to the end.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) event: Event,
    pub(crate) file: Option<Arc<[u8]>>,
    pub(crate) scripts: Vec<Option<Arc<[u8]>>>,
    /// What arguments named.
    pub(crate) named: Vec<(Text, Arc<[u8]>)>,
    /// The program that is to be classified.
    pub(crate) unclassified: Option<FileKey>,
}

#[derive(Default)]
struct Said {
    seen: Vec<Seen>,
    /// Contents by key, since a content comes with its first observation only.
    contents: HashMap<FileKey, Arc<[u8]>>,
}

pub(crate) struct Watch {
    pub(crate) sensors: Option<Sensors>,
    said: Arc<Mutex<Said>>,
}

impl Watch {
    pub(crate) fn start(config: Config) -> Self {
        let (sender, receiver) = sync_channel(limits::OBSERVATIONS_QUEUED_MAX);
        let sensors = sensor_ebpf::start(config, sender).unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let inner = Arc::clone(&said);
        std::thread::spawn(move || {
            for observation in receiver {
                inner.lock().unwrap().take(observation);
            }
        });
        Self {
            sensors: Some(sensors),
            said,
        }
    }

    /// Whether this kernel lets the probes tell library loads. Otherwise perf does, too late for a process that ends at once.
    pub(crate) fn has_load_probes(&self) -> bool {
        let states = self.sensors.as_ref().unwrap().states();
        states
            .iter()
            .any(|state| state.detail == "library loads are seen, by eBPF probes")
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }

    /// Waits until `find` finds something in what was said.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Seen]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(&self.said().seen) {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            // Looking again at each observation would hold up the receiver, and by that the sensor.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the process that a container was started with has ended: all before it has been said.
    pub(crate) fn wait_end(&self, cgroup: &str) -> Vec<Seen> {
        self.wait(&format!("the end of {cgroup}"), |seen| {
            let own = || seen.iter().filter(|seen| is_in(seen, cgroup));
            let first =
                own().find(|seen| exec(seen).is_some_and(|exec| exec.pid_in_namespace == 1))?;
            let process = first.event.process;
            let has_ended = own()
                .any(|seen| seen.event.process == process && seen.event.payload == Payload::Exit);
            has_ended.then(|| own().cloned().collect())
        })
    }

    /// The bytes of a file that was reported now or before.
    pub(crate) fn content(&self, facts: &FileFacts) -> Option<Arc<[u8]>> {
        self.said().contents.get(&facts.key?).cloned()
    }
}

impl Said {
    fn take(&mut self, observation: Observation) {
        let Observation {
            event,
            file,
            scripts,
            named,
        } = observation;
        let named = named.unwrap_or_default();
        let unclassified = named.program;
        let named = named
            .files
            .into_iter()
            .map(|(name, path)| (name, read_path(&path)));
        let file = file.map(read);
        let scripts: Vec<_> = scripts.into_iter().map(|fd| fd.map(read)).collect();
        let (facts, script_facts) = match &event.payload {
            Payload::Exec(exec) => (Some(&exec.file), exec.scripts.as_slice()),
            Payload::LibraryLoad(load) => (Some(&load.file), &[][..]),
            Payload::ExecNoFormat { file } => (Some(&**file), &[][..]),
            _ => (None, &[][..]),
        };
        let programs = facts.into_iter().zip([&file]);
        for (facts, content) in programs.chain(script_facts.iter().zip(&scripts)) {
            if let (Some(key), Some(content)) = (facts.key, content) {
                // The first one: a descriptor may lead to what the file has become since it was executed as `key`.
                self.contents
                    .entry(key)
                    .or_insert_with(|| Arc::clone(content));
            }
        }
        self.seen.push(Seen {
            event,
            file,
            scripts,
            named: named.collect(),
            unclassified,
        });
    }
}

/// Of a descriptor that was opened with `O_PATH`.
fn read_path(fd: &OwnedFd) -> Arc<[u8]> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    read(File::open(link).unwrap().into())
}

fn read(fd: OwnedFd) -> Arc<[u8]> {
    let file = File::from(fd);
    let mut content = Vec::new();
    // By position: the descriptor of a memfd shares its offset with the container.
    let mut block = [0; 65536];
    while let Ok(count @ 1..) = file.read_at(&mut block, content.len() as u64) {
        content.extend_from_slice(&block[..count]);
    }
    content.into()
}

pub(crate) fn is_in(seen: &Seen, cgroup: &str) -> bool {
    seen.event.cgroup.as_ref().is_some_and(|group| {
        group
            .path
            .as_str()
            .is_some_and(|path| path.ends_with(cgroup))
    })
}

pub(crate) fn exec(seen: &Seen) -> Option<&Exec> {
    match &seen.event.payload {
        Payload::Exec(exec) => Some(exec),
        _ => None,
    }
}

pub(crate) fn load(seen: &Seen) -> Option<&LibraryLoad> {
    match &seen.event.payload {
        Payload::LibraryLoad(load) => Some(load),
        _ => None,
    }
}

/// A file of the host.
pub(crate) fn host_file(path: &str) -> Arc<[u8]> {
    let mut content = Vec::new();
    File::open(path).unwrap().read_to_end(&mut content).unwrap();
    content.into()
}
