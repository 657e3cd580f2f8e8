//! A container made by hand: overlay layers, a mount namespace, a root, and a shell in it that takes commands.

use std::{
    io::{BufRead, BufReader, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use enrich::{Config, Enricher, Feedback, Scanner};
use model::{
    Text, Timestamp,
    enriched::{EnrichedEvent, EnrichedPayload, File, IndicatorMatch},
    event::{
        Cgroup, Event, Exec, FileFacts, FileKey, LibraryLoad, Namespaces, Observation, Payload,
        ProcessKey,
    },
    provenance::Sha256,
};
use rustix::fs::{Mode, OFlags, fstat};

/// What a sensor is told.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) ignored: Arc<Mutex<Vec<(u64, u32)>>>,
    pub(crate) classified: Arc<Mutex<Vec<(FileKey, bool)>>>,
}

impl Feedback for Told {
    fn ignore(&self, cgroup_id: u64, mnt_namespace: u32) {
        self.ignored
            .lock()
            .unwrap()
            .push((cgroup_id, mnt_namespace));
    }

    fn classify(&self, program: &FileKey, runs_scripts: bool) {
        self.classified
            .lock()
            .unwrap()
            .push((*program, runs_scripts));
    }
}

/// Sets up the layers and the root, and becomes the shell. `$1` is the directory of everything, `$2` its last layer.
///
/// Layers are made the way engines make them: by mounting an overlay, working in it, and keeping its upper directory.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
cd "$1"
lower=layer0
mkdir -p merged upper work volume build
n=1
while [ "$n" -le "$2" ]; do
    mkdir -p "layer$n" "work$n"
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=layer$n,workdir=work$n,$(cat options)" build
    (cd build && busybox sh -e "../layer$n.sh")
    umount build
    lower="layer$n:$lower"
    n=$((n + 1))
done
absolute=
IFS=:
for layer in $lower; do absolute="$absolute:$1/$layer"; done
unset IFS
mount -t overlay overlay -o "lowerdir=${absolute#:},upperdir=$1/upper,workdir=$1/work,$(cat options)" merged
mount -t proc proc merged/proc
mount -t tmpfs tmpfs merged/dev/shm
mount -t tmpfs tmpfs merged/run
mount --bind volume merged/volume
cd merged
mkdir -p .old
pivot_root . .old
exec /bin/busybox chroot . /bin/busybox sh -c '/bin/busybox umount -l /.old; /bin/busybox rmdir /.old; exec /bin/busybox sh'
"#;

/// Commands of the first layer, which is a plain directory.
const BASE: &str = r#"
mkdir -p layer0/bin layer0/usr/bin layer0/usr/lib layer0/etc layer0/tmp layer0/proc layer0/dev/shm layer0/run layer0/volume layer0/opt
cp /bin/busybox layer0/bin/busybox
for name in sh ls mkfifo cat cp mv ln rm rmdir mkdir touch chmod chown dd printf sleep stat mount umount mktemp; do
    ln -s busybox "layer0/bin/$name"
done
printf 'the first program' > layer0/usr/bin/tool
printf 'the second program' > layer0/usr/bin/other
chmod 755 layer0/usr/bin/tool layer0/usr/bin/other
ln -s tool layer0/usr/bin/link
"#;

/// See the module.
pub(crate) struct Container {
    pub(crate) directory: tempfile::TempDir,
    child: Child,
    pid: u32,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    layers: usize,
}

impl Container {
    /// `base` adds to the first layer (working directory: above `layer0`); each of `layers` changes what is below it
    /// (working directory: the root).
    pub(crate) fn start(base: &str, layers: &[&str]) -> Self {
        Self::with_options(base, layers, "redirect_dir=on")
    }

    pub(crate) fn with_options(base: &str, layers: &[&str], options: &str) -> Self {
        Self::of(base, layers, options, &[])
    }

    /// Started by a process that stays above it, with the host's root in a mount namespace of its own: as by rootless Podman.
    pub(crate) fn of_rootless_engine() -> Self {
        let above = ["--mount", "--fork", "--kill-child", "unshare"];
        let mut container = Self::of("", &[], "redirect_dir=on", &above);
        container.pid = container.sh("echo $$").parse().unwrap();
        container
    }

    fn of(base: &str, layers: &[&str], options: &str, above: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("enrich-it-")
            .tempdir()
            .unwrap();
        std::fs::write(directory.path().join("options"), options).unwrap();
        std::fs::write(directory.path().join("setup.sh"), SETUP).unwrap();
        for (at, layer) in layers.iter().enumerate() {
            std::fs::write(directory.path().join(format!("layer{}.sh", at + 1)), layer).unwrap();
        }
        let status = Command::new("sh")
            .args(["-e", "-c", &format!("{BASE}\n{base}")])
            .current_dir(&directory)
            .status()
            .unwrap();
        assert!(status.success());
        let (child, stdin, stdout) = enter(directory.path(), layers.len(), above);
        let mut container = Self {
            directory,
            pid: child.id(),
            child,
            stdin,
            stdout,
            layers: layers.len(),
        };
        container.sh("true");
        container
    }

    /// Ends the shell and starts it anew on the same layers: the overlay is mounted again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let directory = self.directory.path();
        // The layers are made already.
        std::fs::write(
            directory.join("setup.sh"),
            SETUP.replace("n=1\n", "n=1000\nlower=$(cat lower)\n"),
        )
        .unwrap();
        let lower: Vec<String> = (0..=self.layers)
            .rev()
            .map(|layer| format!("layer{layer}"))
            .collect();
        std::fs::write(directory.join("lower"), lower.join(":")).unwrap();
        (self.child, self.stdin, self.stdout) = enter(directory, self.layers, &[]);
        self.pid = self.child.id();
        self.sh("true");
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs shell commands in the container and gives their output.
    pub(crate) fn sh(&mut self, commands: &str) -> String {
        writeln!(self.stdin, "{{ {commands}\n}} 2>&1; echo; echo end:$?").unwrap();
        let mut output = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.stdout.read_line(&mut line).unwrap() > 0,
                "the shell ended: {output}"
            );
            if let Some(status) = line.strip_prefix("end:") {
                assert_eq!(status.trim(), "0", "{commands}: {output}");
                return output.trim_end().to_owned();
            }
            output.push_str(&line);
        }
    }

    /// Opens a file of the container as the kernel would hand it over.
    pub(crate) fn open(&self, path: &str) -> OwnedFd {
        open_of(self.pid(), path)
    }

    pub(crate) fn namespaces(&self) -> Namespaces {
        let inode = rustix::fs::stat(format!("/proc/{}/ns/mnt", self.pid()))
            .unwrap()
            .st_ino;
        Namespaces {
            mnt: u32::try_from(inode).unwrap(),
            ..Namespaces::default()
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.stop();
    }
}

fn enter(
    directory: &Path,
    layers: usize,
    above: &[&str],
) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut child = Command::new("unshare")
        .args(above)
        .args(["--mount", "sh"])
        .arg(directory.join("setup.sh"))
        .arg(directory)
        .arg(layers.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdin, stdout)
}

/// Opens a file of a process as the kernel would hand it over.
pub(crate) fn open_of(pid: u32, path: &str) -> OwnedFd {
    let path = format!("/proc/{pid}/root{path}");
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// What the kernel would say about an open file.
pub(crate) fn facts(fd: &OwnedFd, path: &str) -> FileFacts {
    let stat = fstat(fd).unwrap();
    let fdinfo = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    let mount_id = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .unwrap();
    FileFacts {
        path: Text::from(path),
        key: Some(key(fd)),
        link_count: u32::try_from(stat.st_nlink).unwrap(),
        mount_id: mount_id.trim().parse().unwrap(),
        ..FileFacts::default()
    }
}

pub(crate) fn key(fd: &OwnedFd) -> FileKey {
    let stat = fstat(fd).unwrap();
    FileKey {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap(),
        mtime_ns: stat.st_mtime * 1_000_000_000 + i64::try_from(stat.st_mtime_nsec).unwrap(),
        ctime_ns: stat.st_ctime * 1_000_000_000 + i64::try_from(stat.st_ctime_nsec).unwrap(),
    }
}

/// Knows the digests it was told.
#[derive(Clone, Default)]
pub(crate) struct Known(pub(crate) Arc<Mutex<Vec<Sha256>>>);

impl Scanner for Known {
    fn matches(&self, sha256: &Sha256) -> Vec<IndicatorMatch> {
        let known = self.0.lock().unwrap();
        let is_known = known.contains(sha256);
        let found = is_known.then(|| IndicatorMatch {
            list: "test".to_owned(),
            entry: sha256.to_string(),
            date: None,
            family: None,
        });
        found.into_iter().collect()
    }
}

/// An enricher and the events that came out of it.
pub(crate) struct Pipeline {
    pub(crate) enricher: Enricher,
    pub(crate) known: Known,
    pub(crate) told: Told,
    pub(crate) events: Vec<EnrichedEvent>,
}

impl Pipeline {
    pub(crate) fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub(crate) fn with_config(config: Config) -> Self {
        let (known, told) = (Known::default(), Told::default());
        Self {
            enricher: Enricher::new(config, Box::new(known.clone()), Box::new(told.clone())),
            known,
            told,
            events: Vec::new(),
        }
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.enricher.observe(observation, &mut self.events);
    }

    /// Polls until nothing is pending, and gives all events so far.
    pub(crate) fn settle(&mut self) -> Vec<EnrichedEvent> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.enricher.has_pending() {
            assert!(Instant::now() < deadline, "still pending");
            self.enricher.poll(&mut self.events);
            std::thread::yield_now();
        }
        std::mem::take(&mut self.events)
    }

    /// The process of `container` runs a file.
    pub(crate) fn exec(
        &mut self,
        container: &Container,
        facts: FileFacts,
        fd: Option<OwnedFd>,
    ) -> Arc<File> {
        self.observe(exec(container, facts, fd));
        let events = self.settle();
        let event = events
            .iter()
            .find(|event| event.payload == EnrichedPayload::Exec)
            .unwrap_or_else(|| panic!("no exec in {events:?}"));
        let process = event.process.as_ref().unwrap();
        Arc::clone(process.binary.as_ref().unwrap())
    }

    /// The process of `container` maps a file.
    pub(crate) fn load(
        &mut self,
        container: &Container,
        facts: FileFacts,
        fd: Option<OwnedFd>,
    ) -> Arc<File> {
        self.observe(load(container, facts, fd));
        let events = self.settle();
        let libraries = events.iter().filter_map(|event| match &event.payload {
            EnrichedPayload::LibraryLoad { library } => Some(library),
            _ => None,
        });
        let libraries: Vec<_> = libraries.collect();
        assert_eq!(libraries.len(), 1, "{events:?}");
        Arc::clone(libraries[0])
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

pub(crate) fn process_key(container: &Container) -> ProcessKey {
    ProcessKey {
        pid: container.pid(),
        start_ns: 1,
    }
}

pub(crate) fn event(container: &Container, payload: Payload) -> Event {
    Event {
        time: now(),
        process: process_key(container),
        cgroup: Some(Arc::new(Cgroup {
            id: 0,
            path: Text::from("/"),
        })),
        payload,
    }
}

pub(crate) fn exec(container: &Container, file: FileFacts, fd: Option<OwnedFd>) -> Observation {
    let exec = Exec {
        filename: file.path.clone(),
        file,
        cwd: Text::from("/"),
        namespaces: container.namespaces(),
        ..Exec::default()
    };
    Observation {
        event: event(container, Payload::Exec(Box::new(exec))),
        file: fd,
        scripts: Vec::new(),
        named: None,
    }
}

pub(crate) fn load(container: &Container, file: FileFacts, fd: Option<OwnedFd>) -> Observation {
    let load = LibraryLoad {
        file,
        address_start: 0,
        address_end: 0,
    };
    let mut event = event(container, Payload::LibraryLoad(Box::new(load)));
    // As perf tells it.
    event.process.start_ns = 0;
    event.cgroup = None;
    Observation {
        event,
        file: fd,
        scripts: Vec::new(),
        named: None,
    }
}
