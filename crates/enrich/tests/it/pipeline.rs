//! Events in, events out: order, parking, processes, and what one container can do to another.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use enrich::{Config, Enricher, Scanner};
use model::{
    Text,
    enriched::{Content, EnrichedPayload, IndicatorMatch},
    event::{
        Cgroup, Event, Exec, FileFacts, FileKey, Loss, LossSource, Namespaces, Observation,
        Payload, ProcessKey,
    },
    provenance::{MissingReason, Provenance, Sha256, UnknownReason},
};

use crate::{
    engines::plain_root,
    matrix::digest,
    overlay::{Container, Known, Pipeline, Told, event, exec, facts, key, load, process_key},
};

/// Larger than what is hashed at once, and as fast to make as a file can be.
pub(crate) fn large_file(container: &mut Container, path: &str, megabytes: u64) -> OwnedFd {
    container.sh(&format!("printf start > {path}"));
    std::fs::File::options()
        .write(true)
        .open(format!("/proc/{}/root{path}", container.pid()))
        .unwrap()
        .set_len(megabytes * 1024 * 1024)
        .unwrap();
    container.open(path)
}

fn unlimited() -> Config {
    Config {
        hash_bytes_max: u64::MAX,
        ..Config::default()
    }
}

/// Polls until `is_there` finds what it looks for.
fn wait_for<T>(
    pipeline: &mut Pipeline,
    is_there: impl Fn(&[model::enriched::EnrichedEvent]) -> Option<T>,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = is_there(&pipeline.events) {
            return found;
        }
        assert!(Instant::now() < deadline, "{:?}", pipeline.events);
        pipeline.enricher.poll(&mut pipeline.events);
        std::thread::yield_now();
    }
}

/// Polls until a program has run, and checks that it was hashed.
fn wait_for_hash_of(pipeline: &mut Pipeline, path: &str) {
    let binary = wait_for(pipeline, |events| {
        let mut binaries = events
            .iter()
            .filter_map(|event| event.process.as_ref()?.binary.clone());
        binaries.find(|file| file.path == Text::from(path))
    });
    assert!(binary.sha256().is_some(), "{binary:?}");
}

#[test]
fn a_large_file_holds_up_its_own_process_alone() {
    let (mut hostile, mut other) = (Container::start("", &[]), Container::start("", &[]));
    let mut pipeline = Pipeline::with_config(unlimited());
    let fd = large_file(&mut hostile, "/opt/huge", 100_000);
    let huge = facts(&fd, "/opt/huge");
    pipeline.observe(exec(&hostile, huge, Some(fd)));
    let fd = hostile.open("/usr/bin/other");
    pipeline.observe(load(&hostile, facts(&fd, "/usr/bin/other"), Some(fd)));
    assert!(pipeline.events.is_empty() && pipeline.enricher.has_pending());

    // Another container is judged at once, and its large file in a moment, long before the 100 GB are read.
    let fd = other.open("/usr/bin/tool");
    pipeline.observe(exec(&other, facts(&fd, "/usr/bin/tool"), Some(fd)));
    assert_eq!(pipeline.events.len(), 1);
    let fd = large_file(&mut other, "/opt/large", 5);
    pipeline.observe(exec(&other, facts(&fd, "/opt/large"), Some(fd)));
    let deadline = Instant::now() + Duration::from_secs(60);
    while pipeline.events.len() < 2 {
        assert!(Instant::now() < deadline);
        pipeline.enricher.poll(&mut pipeline.events);
        std::thread::yield_now();
    }
    let process = pipeline.events[1].process.as_ref().unwrap();
    let binary = process.binary.as_ref().unwrap();
    assert_eq!(binary.path, Text::from("/opt/large"));
    assert!(binary.sha256().is_some());
    assert!(pipeline.enricher.has_pending());
}

#[test]
fn events_of_a_process_stay_in_order_and_equal_bytes_are_read_once() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let fd = large_file(&mut container, "/opt/large", 64);
    let large = facts(&fd, "/opt/large");
    pipeline.observe(exec(&container, large.clone(), Some(fd)));
    let fd = container.open("/usr/bin/other");
    pipeline.observe(load(&container, facts(&fd, "/usr/bin/other"), Some(fd)));
    // A second process runs the same file: the sensor has handed its bytes over already.
    let mut second = exec(&container, large, None);
    second.event.process.start_ns = 2;
    pipeline.observe(second);
    assert!(pipeline.events.is_empty());
    let events = pipeline.settle();
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            let process = event.process.as_ref().unwrap();
            let is_hashed = process.binary.as_ref().unwrap().sha256().is_some();
            (event.payload.kind(), process.key.start_ns, is_hashed)
        })
        .collect();
    use model::enriched::EventKind::{Exec, LibraryLoad};
    assert_eq!(
        seen,
        [(Exec, 1, true), (LibraryLoad, 1, true), (Exec, 2, true)]
    );
}

#[test]
fn a_large_program_that_was_just_written_is_not_read_for_each_of_its_runs() {
    const RUNS: u64 = 100;
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    // Reading this one is not over before all of them wait.
    let fd = large_file(&mut container, "/opt/first", 64);
    pipeline.observe(exec(&container, facts(&fd, "/opt/first"), Some(fd)));
    large_file(&mut container, "/opt/large", 5);
    for start_ns in 0..RUNS {
        let fd = container.open("/opt/large");
        let mut observation = exec(&container, facts(&fd, "/opt/large"), Some(fd));
        observation.event.process.start_ns = start_ns + 10;
        pipeline.observe(observation);
    }
    wait_for(&mut pipeline, |events| {
        (events.len() as u64 == RUNS + 1).then_some(())
    });
    for event in &pipeline.events {
        let binary = event.process.as_ref().unwrap().binary.as_ref().unwrap();
        assert!(binary.sha256().is_some(), "{binary:?}");
    }
}

/// Runs so many large files in a container, each read for minutes.
fn flood(pipeline: &mut Pipeline, container: &mut Container, times: u64) {
    large_file(container, "/opt/huge", 100_000);
    for start_ns in 0..times {
        container.sh(&format!("touch -d @{start_ns} /opt/huge"));
        let fd = container.open("/opt/huge");
        let mut observation = exec(container, facts(&fd, "/opt/huge"), Some(fd));
        observation.event.process.start_ns = start_ns + 10;
        pipeline.observe(observation);
    }
}

#[test]
fn a_container_that_floods_with_large_files_is_told_so() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::with_config(unlimited());
    flood(&mut pipeline, &mut container, 200);
    let refused = pipeline.events.len() as u64;
    assert!(refused > 0);
    for event in &pipeline.events {
        let binary = event.process.as_ref().unwrap().binary.clone().unwrap();
        assert_eq!(
            binary.content,
            Content::Missing {
                reason: MissingReason::Overload
            }
        );
        // That the image has no such file needs no bytes.
        assert_eq!(binary.provenance, Provenance::Added);
    }
    let (id, files) = wait_for(&mut pipeline, |events| {
        events.iter().find_map(|event| match &event.payload {
            EnrichedPayload::Unhashed { files } => {
                Some((event.container.clone()?.id.clone(), files.clone()))
            }
            _ => None,
        })
    });
    let exec = pipeline
        .events
        .first()
        .and_then(|event| event.container.clone());
    assert_eq!(id, exec.unwrap().id);
    assert_eq!(files, [(MissingReason::Overload, refused)].into());
}

#[test]
fn a_program_run_behind_a_flood_of_large_files_is_hashed() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::with_config(unlimited());
    flood(&mut pipeline, &mut container, 100);
    let fd = large_file(&mut container, "/opt/small", 5);
    pipeline.observe(exec(&container, facts(&fd, "/opt/small"), Some(fd)));
    wait_for_hash_of(&mut pipeline, "/opt/small");
}

#[test]
fn many_containers_that_flood_leave_room_for_another() {
    let mut pipeline = Pipeline::with_config(unlimited());
    let mut hostile = Vec::new();
    for _ in 0..8 {
        let mut container = Container::start("", &[]);
        flood(&mut pipeline, &mut container, 64);
        hostile.push(container);
    }
    let mut other = Container::start("", &[]);
    let fd = large_file(&mut other, "/opt/large", 2);
    pipeline.observe(exec(&other, facts(&fd, "/opt/large"), Some(fd)));
    wait_for_hash_of(&mut pipeline, "/opt/large");
}

#[test]
fn one_program_run_all_the_time_does_not_take_all_places() {
    let (mut hostile, mut other) = (Container::start("", &[]), Container::start("", &[]));
    let mut pipeline = Pipeline::with_config(unlimited());
    let fd = large_file(&mut hostile, "/opt/huge", 100_000);
    let huge = facts(&fd, "/opt/huge");
    pipeline.observe(exec(&hostile, huge.clone(), Some(fd)));
    for start_ns in 2..5000 {
        let mut again = exec(&hostile, huge.clone(), None);
        again.event.process.start_ns = start_ns;
        pipeline.observe(again);
    }
    let fd = large_file(&mut other, "/opt/large", 2);
    pipeline.observe(exec(&other, facts(&fd, "/opt/large"), Some(fd)));
    wait_for_hash_of(&mut pipeline, "/opt/large");
}

#[test]
fn a_file_above_the_limit_is_not_read() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let fd = large_file(&mut container, "/opt/huge", 100_000);
    let file = pipeline.exec(&container, facts(&fd, "/opt/huge"), Some(fd));
    assert_eq!(
        file.content,
        Content::Missing {
            reason: MissingReason::TooLarge
        }
    );
}

#[test]
fn a_library_that_is_reported_before_its_process_waits_for_it() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let fd = container.open("/usr/bin/other");
    pipeline.observe(load(&container, facts(&fd, "/usr/bin/other"), Some(fd)));
    assert!(pipeline.events.is_empty());
    let fd = container.open("/usr/bin/tool");
    pipeline.observe(exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd)));
    assert_eq!(pipeline.events.len(), 2);
    assert!(matches!(
        pipeline.events[1].payload,
        EnrichedPayload::LibraryLoad { .. }
    ));
    assert!(!pipeline.enricher.has_pending());
}

/// A library load of a process that nobody announced.
fn unannounced(container: &Container, process: ProcessKey, cgroup: &str) -> Observation {
    let fd = container.open("/usr/bin/other");
    let mut loaded = load(container, facts(&fd, "/usr/bin/other"), Some(fd));
    loaded.event.process = process;
    loaded.event.cgroup = Some(Arc::new(Cgroup {
        id: 0,
        path: Text::from(cgroup),
    }));
    loaded
}

fn host_namespace() -> u32 {
    let inode = rustix::fs::stat("/proc/self/ns/mnt").unwrap().st_ino;
    u32::try_from(inode).unwrap()
}

/// A process that runs.
fn running(pid: u32) -> ProcessKey {
    const TICK_NS: u64 = 10_000_000;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields.split(' ').nth(20).unwrap().parse().unwrap();
    ProcessKey {
        pid,
        start_ns: ticks * TICK_NS + 1234,
    }
}

#[test]
fn a_library_of_a_process_that_was_forgotten_is_judged() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let key = running(container.pid());
    pipeline.observe(unannounced(&container, key, "/"));
    let events = pipeline.settle();
    let [exec, loaded] = events.as_slice() else {
        panic!("{events:?}");
    };
    for event in [exec, loaded] {
        let process = event.process.as_ref().unwrap();
        assert_eq!((process.key, process.exec_time), (key, None));
        assert_eq!(process.args.last(), Some(&Text::from("sh")));
        let binary = process.binary.as_ref().unwrap();
        assert_eq!(binary.path, Text::from("/bin/busybox"));
        assert_eq!(binary.provenance, Provenance::BuiltIn);
    }
    let EnrichedPayload::LibraryLoad { library } = &loaded.payload else {
        panic!("{loaded:?}");
    };
    assert!(library.sha256().is_some());
}

#[test]
fn a_library_that_was_loaded_before_its_process_left_the_host_is_of_no_container() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let key = running(container.pid());
    let mut on_host = exec(&container, FileFacts::default(), None);
    on_host.event.process = key;
    if let Payload::Exec(exec) = &mut on_host.event.payload {
        exec.namespaces.mnt = host_namespace();
    }
    pipeline.observe(on_host);
    pipeline.observe(unannounced(&container, key, "/"));
    assert!(pipeline.settle().is_empty());
}

#[test]
fn a_library_of_a_process_that_is_gone_is_a_loss_of_its_container_and_is_judged() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let cgroup = format!("/docker/{}", "5f".repeat(32));
    let fd = container.open("/usr/bin/tool");
    let mut announced = exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
    announced.event.cgroup = Some(Arc::new(Cgroup {
        id: 0,
        path: Text::from(cgroup.as_str()),
    }));
    pipeline.observe(announced);
    pipeline.settle();
    let known = digest(b"the second program");
    pipeline.known.0.lock().unwrap().push(known);
    // Above every pid that there is.
    let gone = ProcessKey {
        pid: 1 << 30,
        start_ns: 7,
    };
    pipeline.observe(unannounced(&container, gone, &cgroup));
    // As is one without them that was read before.
    let mut again = unannounced(&container, gone, &cgroup);
    again.file = None;
    pipeline.observe(again);
    // One of the host is of no interest.
    pipeline.observe(unannounced(&container, running(std::process::id()), "/"));
    let events = pipeline.settle();
    let [first, second, event] = events.as_slice() else {
        panic!("{events:?}");
    };
    // Its bytes are in hand, and are asked for all the same.
    for loaded in [first, second] {
        let EnrichedPayload::LibraryLoad { library } = &loaded.payload else {
            panic!("{loaded:?}");
        };
        let verdict = (library.matches.len(), library.provenance);
        assert_eq!(verdict, (1, Provenance::BuiltIn));
        let process = loaded.process.as_ref().unwrap();
        assert_eq!((process.key, &process.binary), (gone, &None));
        assert_eq!(loaded.container.as_ref().unwrap().id, "5f".repeat(32));
    }
    let loss = Loss {
        source: LossSource::UnknownProcess,
        count: 2,
    };
    assert_eq!(event.payload, EnrichedPayload::Loss(loss));
    assert_eq!(event.container.as_ref().unwrap().id, "5f".repeat(32));
}

#[test]
fn bytes_that_a_process_of_the_host_ran_first_are_known_in_a_container() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let small = container.open("/usr/bin/tool");
    let large = large_file(&mut container, "/opt/large", 2);
    for (path, fd) in [("/usr/bin/tool", small), ("/opt/large", large)] {
        let seen = facts(&fd, path);
        let mut of_host = exec(&container, seen.clone(), Some(fd));
        of_host.event.process = running(std::process::id());
        if let Payload::Exec(exec) = &mut of_host.event.payload {
            exec.namespaces.mnt = host_namespace();
        }
        pipeline.observe(of_host);
        assert!(pipeline.events.is_empty());
        let deadline = Instant::now() + Duration::from_secs(60);
        while pipeline
            .exec(&container, seen.clone(), None)
            .sha256()
            .is_none()
        {
            assert!(Instant::now() < deadline, "{path}");
        }
    }
}

#[test]
fn the_agents_own_tests_are_no_loss() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::with_config(Config {
        own_argument: Some(Text::from("token")),
        ..Config::default()
    });
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.splitn(3, ':').nth(2));
    let mut run = |argument: &str, cgroup: &str| {
        let missing = FileFacts {
            path: Text::from("/gone"),
            missing: Some(MissingReason::NotWatched),
            ..FileFacts::default()
        };
        let mut observation = exec(&container, missing, None);
        observation.event.cgroup = Some(Arc::new(Cgroup {
            id: 0,
            path: Text::from(cgroup),
        }));
        if let Payload::Exec(exec) = &mut observation.event.payload {
            exec.args = vec![Text::from("/gone"), Text::from(argument)];
        }
        pipeline.observe(observation);
        pipeline.settle().len()
    };
    let (event, event_and_loss) = (1, 2);
    assert_eq!(run("token", own.unwrap()), event);
    assert_eq!(run("other", own.unwrap()), event_and_loss);
    let docker = format!("/docker/{}", "5f".repeat(32));
    assert_eq!(run("token", &docker), event_and_loss);
}

#[test]
fn children_have_their_lineage_and_their_parents_program() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let fd = container.open("/usr/bin/tool");
    pipeline.observe(exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd)));
    let child = ProcessKey {
        pid: process_key(&container).pid,
        start_ns: 2,
    };
    let mut fork = event(
        &container,
        Payload::Fork {
            parent: process_key(&container),
        },
    );
    fork.process = child;
    let without_files = |event: Event| Observation {
        event,
        file: None,
        scripts: Vec::new(),
        named: None,
    };
    pipeline.observe(without_files(fork));
    let fd = container.open("/usr/bin/other");
    let mut loaded = load(&container, facts(&fd, "/usr/bin/other"), Some(fd));
    loaded.event.process = child;
    pipeline.observe(loaded);
    let mut exit = event(&container, Payload::Exit);
    exit.process = child;
    pipeline.observe(without_files(exit));
    let events = pipeline.settle();
    let process = events[1].process.as_ref().unwrap();
    assert_eq!(process.key, child);
    assert_eq!(
        process.binary.as_ref().unwrap().path,
        Text::from("/usr/bin/tool")
    );
    assert_eq!(process.ancestors[0].key, process_key(&container));
    assert_eq!(process.ancestors[0].path, Some(Text::from("/usr/bin/tool")));
}

#[test]
fn a_process_of_the_host_is_no_event_and_its_pair_is_ignored_unless_it_came_from_outside() {
    let told = Told::default();
    let mut enricher = Enricher::new(
        Config::default(),
        Box::new(Known::default()),
        Box::new(told.clone()),
    );
    let mnt = u32::try_from(rustix::fs::stat("/proc/self/ns/mnt").unwrap().st_ino).unwrap();
    let own = std::process::id();
    let exec = Exec {
        parent: ProcessKey {
            pid: own,
            start_ns: 1,
        },
        namespaces: Namespaces {
            mnt,
            ..Namespaces::default()
        },
        ..Exec::default()
    };
    let observation = |id: u64, path: &str| Observation {
        event: Event {
            time: model::Timestamp(1),
            process: ProcessKey {
                pid: 1,
                start_ns: 1,
            },
            cgroup: Some(Arc::new(Cgroup {
                id,
                path: Text::from(path),
            })),
            payload: Payload::Exec(Box::new(exec.clone())),
        },
        file: None,
        scripts: Vec::new(),
        named: None,
    };
    let mut events = Vec::new();
    // As an engine's program is in the control group of a container, however many come.
    for _ in 0..20 {
        enricher.observe(observation(7, "/elsewhere"), &mut events);
    }
    assert_eq!(*told.ignored.lock().unwrap(), []);
    enricher.observe(observation(8, &testkit::proc::cgroup(own).1), &mut events);
    assert_eq!(*told.ignored.lock().unwrap(), [(8, mnt)]);
    assert!(events.is_empty());
}

#[test]
fn a_root_without_an_image_is_said_once_and_never_built_in() {
    // A mount namespace whose root is a plain directory.
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", directory.path().join("bin/busybox")).unwrap();
    std::fs::create_dir(directory.path().join("old")).unwrap();
    let mut child = plain_root(directory.path());
    let pid = child.id();
    let path = format!("/proc/{pid}/root/bin/busybox");
    let inode = rustix::fs::stat(format!("/proc/{pid}/ns/mnt"))
        .unwrap()
        .st_ino;
    let mut pipeline = Pipeline::new();
    for start_ns in [1, 2] {
        let fd: OwnedFd = std::fs::File::open(&path).unwrap().into();
        let file: FileFacts = facts(&fd, "/bin/busybox");
        let exec = Exec {
            file,
            namespaces: Namespaces {
                mnt: u32::try_from(inode).unwrap(),
                ..Namespaces::default()
            },
            ..Exec::default()
        };
        pipeline.observe(Observation {
            event: Event {
                time: model::Timestamp(1),
                process: ProcessKey { pid, start_ns },
                cgroup: Some(Arc::new(Cgroup {
                    id: 0,
                    path: Text::from("/"),
                })),
                payload: Payload::Exec(Box::new(exec)),
            },
            file: Some(fd),
            scripts: Vec::new(),
            named: None,
        });
    }
    let events = pipeline.settle();
    child.kill().unwrap();
    child.wait().unwrap();
    let not_covered = events
        .iter()
        .filter(|event| matches!(event.payload, EnrichedPayload::NotCovered { .. }));
    assert_eq!(not_covered.count(), 1, "{events:?}");
    let execs: Vec<_> = events
        .iter()
        .filter(|event| event.payload == EnrichedPayload::Exec)
        .collect();
    assert_eq!(execs.len(), 2);
    for event in execs {
        let binary = event.process.as_ref().unwrap().binary.clone().unwrap();
        assert_eq!(
            binary.provenance,
            Provenance::Unknown(UnknownReason::NoImage)
        );
        assert!(binary.sha256().is_some());
    }
}

#[test]
fn what_is_about_the_agent_passes_through() {
    let mut pipeline = Pipeline::new();
    let loss = Loss {
        source: LossSource::ExecRing,
        count: 3,
    };
    pipeline.observe(Observation {
        event: Event {
            time: model::Timestamp(5),
            process: ProcessKey::default(),
            cgroup: None,
            payload: Payload::Loss(loss.clone()),
        },
        file: None,
        scripts: Vec::new(),
        named: None,
    });
    let events = pipeline.settle();
    assert_eq!(events[0].payload, EnrichedPayload::Loss(loss));
    assert_eq!(
        (events[0].container.as_ref(), events[0].process.as_ref()),
        (None, None)
    );
}

/// Its list cannot be read.
#[derive(Default)]
struct Broken(AtomicU64);

impl Scanner for Broken {
    fn matches(&self, _: &Sha256) -> Vec<IndicatorMatch> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    }

    fn failures(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn indicators_that_cannot_be_read_are_a_loss() {
    let container = Container::start("", &[]);
    let scanner = Box::new(Broken::default());
    let mut pipeline = Pipeline {
        enricher: Enricher::new(Config::default(), scanner, Box::new(Told::default())),
        ..Pipeline::new()
    };
    let fd = container.open("/usr/bin/tool");
    pipeline.observe(exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd)));
    pipeline.enricher.poll(&mut pipeline.events);
    let loss = Loss {
        source: LossSource::Indicators,
        count: 1,
    };
    let told = pipeline.events.last().unwrap();
    assert_eq!(told.payload, EnrichedPayload::Loss(loss));
}

#[test]
fn indicators_that_arrive_later_apply_to_known_files() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let run = |pipeline: &mut Pipeline| {
        let fd = container.open("/usr/bin/tool");
        pipeline.exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd))
    };
    let file = run(&mut pipeline);
    assert!(file.matches.is_empty());
    pipeline
        .known
        .0
        .lock()
        .unwrap()
        .push(file.sha256().unwrap());
    let mut now = Vec::new();
    let time = SystemTime::now().into();
    pipeline.enricher.match_anew(time, &mut now);
    // What runs is told at once, and once.
    let matches: Vec<_> = now
        .iter()
        .map(|event| {
            let process = event.process.as_ref().unwrap();
            assert_eq!(event.payload, EnrichedPayload::Exec);
            process.binary.as_ref().unwrap().matches.len()
        })
        .collect();
    assert_eq!(matches, [1]);
    now.clear();
    pipeline.enricher.match_anew(time, &mut now);
    assert_eq!(now, []);
    assert_eq!(run(&mut pipeline).matches.len(), 1);
}

#[test]
fn a_large_program_that_is_run_many_times_is_compared_once() {
    let large = "head -c 3000000 /dev/zero > layer0/usr/bin/large; chmod 755 layer0/usr/bin/large";
    let container = Container::start(large, &[]);
    let mut pipeline = Pipeline::new();
    let made = key(&container.open("/usr/bin/large"));
    // A file made just now may be another one of the same looks.
    while !made.is_settled(0, SystemTime::now().into()) {
        std::thread::yield_now();
    }
    for start_ns in 1..=500 {
        let fd = container.open("/usr/bin/large");
        let mut observation = exec(&container, facts(&fd, "/usr/bin/large"), Some(fd));
        observation.event.process.start_ns = start_ns;
        pipeline.observe(observation);
    }
    let events = pipeline.settle();
    assert_eq!(events.len(), 500);
    for event in &events {
        let binary = event.process.as_ref().unwrap().binary.clone().unwrap();
        assert_eq!(binary.provenance, Provenance::BuiltIn, "{binary:?}");
    }
}

/// A file that is deleted and made anew within a tick of the clock can look like the one that is still being judged.
#[test]
fn files_that_look_alike_keep_their_own_bytes() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let (mut expected, mut first) = (Vec::new(), None);
    // Of each size one that is still being judged, and another one.
    for (number, bytes) in [100, 100, 3_000_000, 3_000_000].into_iter().enumerate() {
        let path = format!("/run/{number}");
        container.sh(&format!(
            "printf {number} > {path}; truncate -s {bytes} {path}; touch -d @1 {path}"
        ));
        let fd = container.open(&path);
        let mut found = facts(&fd, &path);
        // One name more than it has now: ctime need not be the same.
        found.link_count += 1;
        let alike = first.filter(|first: &FileKey| first.size == bytes);
        found.key = alike.or(found.key);
        first = found.key;
        let mut contents = number.to_string().into_bytes();
        contents.resize(bytes as usize, 0);
        let sha256 = digest(&contents);
        // A known one is looked for in the image, which takes a while also when it is small.
        pipeline.known.0.lock().unwrap().push(sha256);
        expected.push(Some(sha256));
        let mut observation = exec(&container, found, Some(fd));
        observation.event.process.start_ns = number as u64 + 1;
        pipeline.observe(observation);
    }
    assert!(pipeline.events.is_empty(), "nothing waits for anything");
    let mut events = pipeline.settle();
    events.sort_by_key(|event| event.process.as_ref().unwrap().key.start_ns);
    let seen: Vec<_> = events
        .iter()
        .map(|event| event.process.as_ref()?.binary.as_ref()?.sha256())
        .collect();
    assert_eq!(seen, expected);
}

/// Somebody has it mapped and writes to it: the bytes that were read under its key are not what runs.
#[test]
fn a_file_that_changes_under_its_key_is_read_each_time() {
    const PATH: &str = "/opt/changing";
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let mut first = None;
    for (contents, is_unsettled) in [("first", false), ("other", true), ("third", true)] {
        container.sh(&format!("printf {contents} > {PATH}"));
        let fd = container.open(PATH);
        while !key(&fd).is_settled(0, SystemTime::now().into()) {
            std::thread::yield_now();
        }
        let found = first.get_or_insert_with(|| facts(&fd, PATH));
        found.is_unsettled = is_unsettled;
        // Bytes under another key than the one that was seen count when they are known.
        let sha256 = digest(contents.as_bytes());
        pipeline.known.0.lock().unwrap().push(sha256);
        let binary = pipeline.exec(&container, found.clone(), Some(fd));
        assert_eq!(binary.sha256(), Some(sha256));
    }
}
