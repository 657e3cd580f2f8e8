//! What is said about a process, and that nothing goes missing uncounted.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use model::{
    Text,
    event::{LossSource, Payload, ProcessKey, Socket, Stdio},
};
use sensor_ebpf::Config;

use crate::{
    container::Container,
    watch,
    watch::{Seen, Watch, exec, is_in, load},
};

#[test]
fn an_exec_is_told_in_full() {
    let watch = watch();
    let mut container = Container::new("exec");
    container.run(&[
        "/stimulus/s",
        "socket",
        "/stimulus/s",
        "one",
        "two words",
        "",
    ]);
    let seen = watch.wait_end(&container.cgroup());
    let (event, exec) = seen
        .iter()
        .find_map(|seen| Some((&seen.event, exec(seen)?)).filter(|(_, exec)| exec.args.len() == 4))
        .unwrap();
    assert_eq!(
        exec.args,
        ["/stimulus/s", "one", "two words", ""].map(Text::from)
    );
    assert_eq!(exec.env, Text::from("PATH=/bin\0EMPTY=\0SECRET=a=b\0"));
    assert_eq!(exec.cwd, Text::from("/tmp"));
    assert_eq!(exec.file.path, Text::from("/stimulus/s"));
    assert_eq!(exec.file.filesystem, Text::from("overlay"));
    let address = |text: &str| text.parse().ok();
    assert_eq!(
        exec.stdio,
        [
            Stdio::Socket(Box::new(Socket {
                family: 2,
                state: 1,
                local: address("127.0.0.1:5555"),
                peer: address("127.0.0.1:4444"),
            })),
            match exec.stdio[1] {
                Stdio::Pipe { inode } if inode > 0 => Stdio::Pipe { inode },
                ref other => panic!("{other:?}"),
            },
            Stdio::Closed,
        ]
    );
    assert_eq!(exec.credentials.uid, 0);
    // CAP_SYS_ADMIN is 21; CAP_SYS_MODULE, 16, was not given.
    assert_eq!(
        exec.credentials.cap_effective & (1 << 21 | 1 << 16),
        1 << 21
    );
    assert!(exec.pid_in_namespace > 1 && exec.pid_in_namespace < event.process.pid);
    let forked = seen.iter().any(|seen| {
        seen.event.process == event.process
            && seen.event.payload
                == Payload::Fork {
                    parent: exec.parent,
                }
    });
    assert!(forked, "the parent's key is the same in fork and exec");
}

#[test]
fn a_hundred_thousand_arguments_are_cut_and_flagged() {
    let watch = watch();
    let mut container = Container::new("arguments");
    container.run(&[
        "/bin/sh",
        "-c",
        "seq 100000 | xargs -s 2000000 -n 100000 /stimulus/s nothing",
    ]);
    let seen = watch.wait_end(&container.cgroup());
    let exec = seen
        .iter()
        .filter_map(exec)
        .find(|exec| exec.args.get(1) == Some(&Text::from("nothing")))
        .unwrap();
    assert!(exec.args_truncated);
    assert_eq!(exec.args.len(), model::limits::ARGV_COUNT_MAX);
    assert_eq!(exec.args[1023], Text::from("1022"));
}

#[test]
fn containers_that_already_run_are_told() {
    let mut container = Container::new("running");
    container.start(&["/bin/sh", "-c", "cat; true"]);
    let cgroup = container.cgroup();
    // Seen by the shared sensor, it has executed `cat`: only then a second one is started.
    let first = watch().wait("cat", |seen| {
        seen.iter()
            .find(|seen| {
                is_in(seen, &cgroup)
                    && exec(seen).is_some_and(|exec| exec.comm == Text::from("cat"))
            })
            .cloned()
    });
    let second = Watch::start(Config::default());
    let (process, facts, args) = second.wait("the running cat", |seen| {
        let seen = seen.iter().find(|seen| {
            is_in(seen, &cgroup)
                && exec(seen)
                    .is_some_and(|exec| exec.already_running && exec.comm == Text::from("cat"))
        })?;
        let exec = exec(seen)?;
        Some((seen.event.process, exec.file.clone(), exec.args.clone()))
    });
    // The very same key, or its end would not be recognized.
    assert_eq!(process, first.event.process);
    assert_eq!(args, [Text::from("cat")]);
    assert_eq!(facts.path, Text::from("/usr/bin/cat"));
    assert!(second.content(&facts).is_some());
    let library = second.wait("its libraries", |seen| {
        seen.iter()
            .filter(|seen| seen.event.process == process)
            .filter_map(load)
            .find(|load| load.file.path.file_name().starts_with(b"libc.so"))
            .map(|load| load.file.clone())
    });
    assert!(second.content(&library).is_some());
    container.end();
    second.wait("its end", |seen| {
        seen.iter()
            .find(|seen| seen.event.process == process && seen.event.payload == Payload::Exit)
            .map(drop)
    });
}

#[test]
fn what_is_declared_the_host_is_silent() {
    let watch = Watch::start(Config::default());
    let mut container = Container::new("ignored");
    let cgroup = container.cgroup();
    container.start(&["/bin/sh", "-c", "read x; /stimulus/s ignored; /stimulus/s"]);
    let (id, mnt) = watch.wait("the shell", |seen| {
        let seen = seen.iter().find(|seen| {
            is_in(seen, &cgroup) && exec(seen).is_some_and(|exec| exec.pid_in_namespace == 1)
        })?;
        Some((seen.event.cgroup.as_ref()?.id, exec(seen)?.namespaces.mnt))
    });
    watch.sensors.as_ref().unwrap().feedback().ignore(id, mnt);
    container.end();
    wait_until_all_is_said(&watch);
    watch.wait("the end", |seen| {
        let is_silent = seen.iter().all(|seen| {
            exec(seen).is_none_or(|exec| exec.args.get(1) != Some(&Text::from("ignored")))
        });
        assert!(is_silent);
        Some(())
    });
}

/// Runs a program of the host, as this test is.
fn host_program() -> u32 {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Has nothing said any more of the host's programs.
fn ignore_host(watch: &Watch) {
    let pid = host_program();
    let (id, mnt) = watch.wait("the host's program", |seen| {
        let of_pid = |seen: &&Seen| seen.event.process.pid == pid;
        let (seen, exec) = seen
            .iter()
            .filter(of_pid)
            .find_map(|seen| Some((seen, exec(seen)?)))?;
        Some((seen.event.cgroup.as_ref()?.id, exec.namespaces.mnt))
    });
    watch.sensors.as_ref().unwrap().feedback().ignore(id, mnt);
}

/// Something that comes later shows that all before it has been said.
fn wait_until_all_is_said(watch: &Watch) {
    let mut later = Container::new("later");
    later.run(&["/stimulus/s"]);
    watch.wait_end(&later.cgroup());
}

/// What is said to have been loaded by an ended process once a program of the host has run with its pid.
fn loads_by_who_gets_the_pid(watch: &Watch, ended: ProcessKey) -> usize {
    let loads = || {
        watch.wait("the end", |seen| {
            let of_ended = seen.iter().filter(|seen| seen.event.process == ended);
            Some(of_ended.filter_map(load).count())
        })
    };
    let before = loads();
    let has_pid_again = (0..1000).any(|_| {
        fs::write("/proc/sys/kernel/ns_last_pid", (ended.pid - 1).to_string()).unwrap();
        host_program() == ended.pid
    });
    assert!(has_pid_again, "others take each pid");
    // What is loaded in the middle of an exec is kept back for a second.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        wait_until_all_is_said(watch);
    }
    loads() - before
}

#[test]
fn who_gets_the_pid_of_an_ended_process_is_not_taken_for_it() {
    let watch = Watch::start(Config::default());
    let mut container = Container::new("ended");
    container.run(&["/stimulus/s"]);
    let seen = watch.wait_end(&container.cgroup());
    let ended = seen.iter().find(|seen| exec(seen).is_some()).unwrap();
    ignore_host(&watch);
    assert_eq!(loads_by_who_gets_the_pid(&watch, ended.event.process), 0);
}

#[test]
fn who_gets_the_pid_of_a_process_whose_end_was_lost_is_not_taken_for_it_for_long() {
    let watch = Watch::start(Config {
        // Room for some sixty forks and ends.
        process_ring_bytes: 4096,
        ..Config::default()
    });
    let mut container = Container::new("lost");
    // Nobody takes what is said meanwhile: the sensor waits.
    watch.wait("nothing", |_| {
        container.run(&["/stimulus/s", "run", "6000", "/stimulus/s"]);
        Some(())
    });
    wait_until_all_is_said(&watch);
    let cgroup = container.cgroup();
    let endless = watch.wait("a process whose end was lost", |seen| {
        let has_ended = |process| {
            seen.iter()
                .any(|seen| seen.event.process == process && seen.event.payload == Payload::Exit)
        };
        seen.iter()
            .filter(|seen| is_in(seen, &cgroup) && exec(seen).is_some())
            .map(|seen| seen.event.process)
            .find(|process| !has_ended(*process))
    });
    ignore_host(&watch);
    let deadline = Instant::now() + Duration::from_secs(60);
    while loads_by_who_gets_the_pid(&watch, endless) > 0 {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn execs_are_events_or_counted_losses() {
    const COUNT: u64 = 3000;
    let mut watch = Watch::start(Config {
        // Room for a few dozen records: most are lost.
        exec_ring_bytes: 16 * 4096,
        ..Config::default()
    });
    let mut container = Container::new("storm");
    let count = COUNT.to_string();
    container.run(&["/stimulus/s", "run", &count, "/stimulus/s"]);
    let counters = watch.sensors.take().unwrap().stop().unwrap();
    assert!(counters.execs >= COUNT);
    watch.wait("all to be said", |seen| {
        let events = seen
            .iter()
            .filter(|seen| exec(seen).is_some_and(|exec| !exec.already_running));
        let lost = seen.iter().filter_map(|seen| match &seen.event.payload {
            Payload::Loss(loss) if loss.source == LossSource::ExecRing => Some(loss.count),
            _ => None,
        });
        let events = events.count() as u64;
        (events + lost.sum::<u64>() == counters.execs).then_some(())
    });
}
