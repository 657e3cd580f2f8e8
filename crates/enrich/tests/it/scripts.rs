//! Scripts: by `#!`, as an interpreter's argument, and without any format.

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::SystemTime,
};

use model::{
    Text,
    enriched::{Content, EnrichedPayload, FileKind},
    event::{Exec, FileFacts, FileKey, Named, Observation, Payload},
    provenance::{MissingReason, Provenance},
};

use rustix::fs::{Mode, OFlags};

use crate::{
    matrix::digest,
    overlay::{Container, Pipeline, event, facts, key},
};

fn shell(container: &Container, args: &[&str]) -> Exec {
    let fd = container.open("/bin/busybox");
    Exec {
        file: facts(&fd, "/bin/busybox"),
        filename: Text::from("/bin/sh"),
        args: args.iter().map(|arg| Text::from(*arg)).collect(),
        cwd: Text::from("/opt"),
        namespaces: container.namespaces(),
        ..Exec::default()
    }
}

fn observe(container: &Container, exec: Exec) -> Observation {
    Observation {
        event: event(container, Payload::Exec(Box::new(exec))),
        file: Some(container.open("/bin/busybox")),
        scripts: Vec::new(),
        named: None,
    }
}

#[test]
fn the_script_of_a_hash_bang_is_judged_beside_its_interpreter() {
    let mut container = Container::start("", &[]);
    container.sh("printf '#!/bin/sh\\ntrue\\n' > /opt/script");
    let fd = container.open("/opt/script");
    let mut exec = shell(&container, &["/bin/sh", "./script"]);
    exec.scripts = vec![facts(&fd, "/opt/script")];
    exec.filename = Text::from("./script");
    let mut observation = observe(&container, exec);
    observation.scripts = vec![Some(fd)];
    let mut pipeline = Pipeline::new();
    pipeline.observe(observation);
    let events = pipeline.settle();
    let process = events[0].process.as_ref().unwrap();
    let (binary, script) = (
        process.binary.as_ref().unwrap(),
        process.script.as_ref().unwrap(),
    );
    assert_eq!(
        (binary.kind, binary.provenance),
        (FileKind::Interpreter, Provenance::BuiltIn)
    );
    assert_eq!(
        (script.kind, script.provenance),
        (FileKind::Script, Provenance::Added)
    );
    assert_eq!(script.contents, Some(Text::from("#!/bin/sh\ntrue\n")));
    assert_eq!(script.path_used, Some(Text::from("./script")));
}

#[test]
fn the_script_of_a_hash_bang_that_was_not_told_of_is_found_by_its_name_or_counted() {
    let mut container = Container::start("", &[]);
    container.sh("printf '#!/bin/sh\\ntrue\\n' > /opt/script");
    let run = |filename: &str| {
        let mut exec = shell(&container, &["/bin/sh", filename]);
        exec.scripts = vec![FileFacts {
            path: Text::from(filename),
            missing: Some(MissingReason::NotWatched),
            ..FileFacts::default()
        }];
        exec.filename = Text::from(filename);
        let mut pipeline = Pipeline::new();
        pipeline.observe(observe(&container, exec));
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone().unwrap();
        let last = events.last().unwrap().payload.clone();
        (script, last)
    };
    let (script, last) = run("./script");
    assert_eq!(script.sha256(), Some(digest(b"#!/bin/sh\ntrue\n")));
    assert_eq!(
        (script.path.to_string().as_str(), script.provenance),
        ("/opt/script", Provenance::Added)
    );
    assert_eq!(last, EnrichedPayload::Exec);
    let (script, last) = run("../opt/gone");
    let reason = MissingReason::NotWatched;
    assert_eq!(script.content, Content::Missing { reason });
    assert_eq!(script.path, Text::from("/opt/gone"));
    let files = [(reason, 1)].into();
    assert_eq!(last, EnrichedPayload::Unhashed { files });
}

#[test]
fn of_nested_scripts_the_known_one_is_reported_and_each_that_is_missing_counted() {
    let mut container = Container::start("", &[]);
    container.sh("printf '#!/opt/inner\\n' > /opt/outer; printf '#!/bin/sh\\n' > /opt/inner");
    let (outer, inner) = (container.open("/opt/outer"), container.open("/opt/inner"));
    let run = |known: &[u8], inner_facts: FileFacts, inner_fd| {
        let mut exec = shell(&container, &["/bin/sh", "/opt/inner", "/opt/outer"]);
        exec.scripts = vec![facts(&outer, "/opt/outer"), inner_facts];
        exec.filename = Text::from("/opt/outer");
        let mut observation = observe(&container, exec);
        observation.scripts = vec![Some(outer.try_clone().unwrap()), inner_fd];
        let mut pipeline = Pipeline::new();
        pipeline.known.0.lock().unwrap().push(digest(known));
        pipeline.observe(observation);
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone().unwrap();
        (script, events.last().unwrap().payload.clone())
    };
    let inner_facts = facts(&inner, "/opt/inner");
    for (known, path, used) in [
        (&b"#!/bin/sh\n"[..], "/opt/inner", None),
        (b"#!/opt/inner\n", "/opt/outer", None),
        (b"neither", "/opt/outer", None),
    ] {
        let fd = Some(inner.try_clone().unwrap());
        let (script, last) = run(known, inner_facts.clone(), fd);
        assert_eq!((&script.path, &script.path_used), (&path.into(), &used));
        assert_eq!(last, EnrichedPayload::Exec);
    }
    let reason = MissingReason::NotificationLost;
    let lost = FileFacts {
        path: Text::from("/opt/inner"),
        missing: Some(reason),
        ..FileFacts::default()
    };
    let (_, last) = run(b"neither", lost, None);
    let files = [(reason, 1)].into();
    assert_eq!(last, EnrichedPayload::Unhashed { files });
}

#[test]
fn a_script_named_in_an_argument_is_found_below_the_root_of_the_process() {
    let mut container = Container::start("printf image > layer0/opt/shipped", &[]);
    container.sh("printf evil > /opt/x; ln -s ../../../../opt/x /opt/climb; ln -s /proc/1/root/etc/hostname /opt/magic; mkfifo /opt/fifo");
    let expected = [
        ("x", Some(("/opt/x", Provenance::Added))),
        ("/opt/shipped", Some(("/opt/shipped", Provenance::BuiltIn))),
        ("./climb", Some(("/opt/x", Provenance::Added))),
        ("magic", None),
        ("fifo", None),
        ("gone", None),
    ];
    for (argument, expected) in expected {
        let mut pipeline = Pipeline::new();
        pipeline.observe(observe(
            &container,
            shell(&container, &["sh", "-e", argument]),
        ));
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone().unwrap();
        match expected {
            Some((path, provenance)) => {
                assert_eq!(
                    (script.path.to_string().as_str(), script.provenance),
                    (path, provenance)
                );
                assert!(script.sha256().is_some());
            }
            None => assert_eq!(
                script.content,
                Content::Missing {
                    reason: MissingReason::ProcessGone
                },
                "{argument}"
            ),
        }
    }
}

#[test]
fn a_known_script_is_found_behind_any_option() {
    let base = "cp /usr/bin/perl layer0/usr/bin/perl; mkdir layer0/lib";
    let mut container = Container::start(base, &[]);
    container.sh("printf evil > /opt/evil.pl; printf decoy > /opt/decoy; mkfifo /opt/fifo");
    for arguments in [
        &["perl", "evil.pl", "decoy"][..],
        &["perl", "-I", "/lib", "evil.pl"],
        &["perl", "-I", "decoy", "evil.pl"],
        // None of these is an option.
        &["perl", "-Z", "/lib", "evil.pl"],
        &["perl", "-Z", "decoy", "evil.pl"],
        &["perl", "-Z", "fifo", "gone", "decoy", "evil.pl"],
        &["perl", "--new=evil.pl", "decoy"],
    ] {
        let mut pipeline = Pipeline::new();
        pipeline.known.0.lock().unwrap().push(digest(b"evil"));
        let mut exec = shell(&container, arguments);
        let perl = container.open("/usr/bin/perl");
        exec.file = facts(&perl, "/usr/bin/perl");
        let mut observation = observe(&container, exec);
        observation.file = Some(perl);
        pipeline.observe(observation);
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone();
        let script = script.unwrap_or_else(|| panic!("{arguments:?}"));
        assert_eq!(script.path, Text::from("/opt/evil.pl"), "{arguments:?}");
        assert_eq!(script.matches.len(), 1);
    }
}

/// Links that lead elsewhere, or nowhere, for who is not that process.
#[test]
fn a_script_that_only_its_process_can_name_is_found() {
    let mut container = Container::start("", &[]);
    container
        .sh("printf held > /opt/held; exec 3< /opt/held 4< /opt; rm /opt/held; printf named > /opt/named");
    let pid = container.pid();
    for (argument, is_own_pid, bytes) in [
        ("/dev/fd/3", false, "held"),
        ("/proc/self/fd/3", false, "held"),
        ("/proc/thread-self/fd/3", false, "held"),
        ("/proc//self/./fd/3", false, "held"),
        (&format!("/proc/self/task/{pid}/fd/3"), false, "held"),
        (&format!("/proc/{pid}/fd/3"), true, "held"),
        (&format!("/proc/{pid}/fd/3"), false, "held"),
        ("/proc/self/cwd/named", false, "named"),
        ("/dev/fd/4/named", false, "named"),
        ("/proc/self/root/opt/named", false, "named"),
        (&format!("/proc/{pid}/root/opt/named"), true, "named"),
    ] {
        let mut exec = shell(&container, &["/bin/sh", argument]);
        exec.pid_in_namespace = if is_own_pid { pid } else { 0 };
        let mut pipeline = Pipeline::new();
        pipeline.observe(observe(&container, exec));
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone();
        let sha256 = script.and_then(|script| script.sha256());
        assert_eq!(sha256, Some(digest(bytes.as_bytes())), "{argument}");
    }
    let script = |container: &Container, argument: &str| {
        let mut pipeline = Pipeline::new();
        pipeline.observe(observe(container, shell(container, &["/bin/sh", argument])));
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone();
        script.and_then(|script| script.sha256())
    };
    // By links of the container's own making.
    container.sh("ln -s /proc/self/fd/3 /link; ln -s ../link /opt/relative; ln -s /proc/self/fd /opt/directory");
    container.sh("ln -s /proc/self/cwd/turning /opt/turning");
    container.sh("ln -s loop /loop; ln -s /dev/../proc/./self/cwd/named /dotted");
    for (argument, bytes) in [
        ("/link", Some("held")),
        ("relative", Some("held")),
        ("/opt/directory/3", Some("held")),
        ("directory/../directory/3", None),
        ("/opt/../opt/directory/./4/named", Some("named")),
        ("/dotted", Some("named")),
        ("/proc/self/cwd/relative", Some("held")),
        ("/proc/self/root/proc/self/cwd/directory/3", Some("held")),
        ("/loop", None),
        ("turning", None),
    ] {
        let expected = bytes.map(|bytes| digest(bytes.as_bytes()));
        assert_eq!(script(&container, argument), expected, "{argument}");
    }
    // Leads to another file, by a link that only its process can follow.
    container.sh("mkdir -p /opt/a/b /opt/a/proc/self/fd; printf evil > /opt/a/proc/self/fd/3");
    container.sh("exec 5< /opt/a/b; ln -s /proc/self/fd/5 /x");
    assert_eq!(script(&container, "/x/../proc/self/fd/3"), None);
    // What the container has there itself is what is run; a link of it is not followed out of it.
    container.sh(
        "mount -t tmpfs t /proc; mkdir -p /proc/7/fd /proc/self/cwd /dev/fd; ln -s /etc/passwd /proc/7/fd/3; \
         printf other > /proc/self/cwd/named; printf other > /dev/fd/3",
    );
    let other = Some(digest(b"other"));
    assert_eq!(script(&container, "/proc/self/cwd/named"), other);
    assert_eq!(script(&container, "/dev/fd/3"), other);
    assert_eq!(script(&container, "/proc/7/fd/3"), None);
}

/// `/opt/script`, as the sensor opens it.
fn as_sensors_open(container: &Container) -> OwnedFd {
    let path = format!("/proc/{}/root/opt/script", container.pid());
    rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap()
}

/// The program at `path`, with what its arguments named when it was executed.
fn observe_named(
    container: &Container,
    path: &str,
    arguments: &[&str],
    named: Named,
) -> Observation {
    let fd = container.open(path);
    let exec = Exec {
        file: facts(&fd, path),
        ..shell(container, arguments)
    };
    Observation {
        file: Some(fd),
        named: Some(Box::new(named)),
        ..observe(container, exec)
    }
}

/// What the sensor has opened counts, and it is told which programs it is worth to do that for.
#[test]
fn a_script_that_is_gone_was_opened_by_the_sensor() {
    let mut container = Container::start("cp /usr/bin/perl layer0/usr/bin/perl", &[]);
    let asked = FileKey {
        device: 1,
        inode: 2,
        size: 3,
        mtime_ns: 4,
        ctime_ns: 5,
    };
    for (path, arguments, expected) in [
        ("/bin/busybox", &["sh", "script"][..], Some(true)),
        ("/usr/bin/perl", &["perl", "-w", "script"], Some(true)),
        // No interpreter, and none that was asked about.
        ("/usr/bin/tool", &["tool", "script"], Some(false)),
        ("/bin/busybox", &["sh", "script"], None),
    ] {
        container.sh("printf 'rm $0' > /opt/script");
        let script = as_sensors_open(&container);
        container.sh("rm /opt/script");
        let named = Named {
            files: vec![(Text::from("script"), script)],
            program: expected.is_some().then_some(asked),
        };
        let observation = observe_named(&container, path, arguments, named);
        let mut pipeline = Pipeline::new();
        pipeline.observe(observation);
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone();
        let is_read = script.and_then(|script| script.sha256()) == Some(digest(b"rm $0"));
        assert_eq!(is_read, path != "/usr/bin/tool", "{arguments:?}");
        let told = pipeline.told.classified.lock().unwrap().clone();
        let expected: Vec<_> = expected.map(|runs| (asked, runs)).into_iter().collect();
        assert_eq!(told, expected, "{arguments:?}");
    }
}

/// The name leads to another file by the time that the interpreter opens it.
#[test]
fn a_script_that_takes_the_place_of_another_after_the_exec_is_found() {
    let mut container = Container::start("cp /usr/bin/perl layer0/usr/bin/perl", &[]);
    for (path, arguments) in [
        ("/bin/busybox", &["sh", "script"][..]),
        ("/usr/bin/perl", &["perl", "-Z", "none", "script"]),
    ] {
        for known in [&b"evil"[..], b"harmless"] {
            container.sh("printf harmless > /opt/script; printf evil > /opt/evil");
            let script = as_sensors_open(&container);
            container.sh("mv /opt/evil /opt/script");
            let named = Named {
                files: vec![(Text::from("script"), script)],
                program: None,
            };
            let observation = observe_named(&container, path, arguments, named);
            let mut pipeline = Pipeline::new();
            pipeline.known.0.lock().unwrap().push(digest(known));
            pipeline.observe(observation);
            let events = pipeline.settle();
            let script = events[0].process.as_ref().unwrap().script.clone();
            assert_eq!(
                script.unwrap().sha256(),
                Some(digest(known)),
                "{arguments:?}"
            );
        }
    }
}

/// Fanotify merges its events, so that one descriptor comes with the first.
#[test]
fn a_script_that_its_process_executes_again_is_read_again_while_its_name_is_there() {
    let mut container = Container::start("", &[]);
    container.sh("printf 0-script > /opt/script");
    let fd = container.open("/opt/script");
    let facts = FileFacts {
        is_unsettled: true,
        ..facts(&fd, "/opt/script")
    };
    let mut fd = Some(fd);
    let mut pipeline = Pipeline::new();
    for (change, expected) in [
        ("true", Some("0-script")),
        // As by a mapping: what the sensor saw is not what is there by now.
        (
            "printf 1 | dd of=/opt/script conv=notrunc",
            Some("1-script"),
        ),
        ("rm /opt/script", None),
    ] {
        container.sh(change);
        let expected = expected.map(|bytes| digest(bytes.as_bytes()));
        pipeline.known.0.lock().unwrap().extend(expected);
        let mut exec = shell(&container, &["/bin/sh", "./script"]);
        exec.scripts = vec![facts.clone()];
        exec.filename = Text::from("./script");
        let mut observation = observe(&container, exec);
        observation.scripts = vec![fd.take()];
        pipeline.observe(observation);
        let events = pipeline.settle();
        let script = events[0].process.as_ref().unwrap().script.clone();
        assert_eq!(script.unwrap().sha256(), expected, "{change}");
    }
}

/// Changes the first byte of a file by a mapping, for each byte of its standard input, which it gives back then.
const MAPPED: &str = r"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
int main(int argc, char **argv)
{
    int byte;
    char *mapping = mmap(0, 1, PROT_READ | PROT_WRITE, MAP_SHARED, open(argv[1], O_RDWR), 0);
    if (mapping == MAP_FAILED)
        return 1;
    while ((byte = getchar()) != EOF) {
        *mapping = byte;
        putchar(byte);
        fflush(stdout);
    }
}";

/// The file's times tell of the first change alone: one key, many contents.
#[test]
fn a_script_that_is_changed_through_a_mapping_is_read_each_time() {
    let mut container = Container::start("", &[]);
    container.sh("printf 0-script > /opt/script");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mapped");
    let mut compiler = Command::new("cc")
        .args(["-x", "c", "-o"])
        .arg(&program)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    compiler
        .stdin
        .take()
        .unwrap()
        .write_all(MAPPED.as_bytes())
        .unwrap();
    assert!(compiler.wait().unwrap().success());
    let mut mapped = Command::new(&program)
        .arg(format!("/proc/{}/root/opt/script", container.pid()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipeline = Pipeline::new();
    let mut keys = Vec::new();
    for byte in [b'1', b'2', b'3'] {
        let mut answer = [0];
        mapped.stdin.as_mut().unwrap().write_all(&[byte]).unwrap();
        mapped
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut answer)
            .unwrap();
        let fd = container.open("/opt/script");
        while !key(&fd).is_settled(0, SystemTime::now().into()) {
            std::thread::yield_now();
        }
        keys.push(key(&fd));
        pipeline.observe(observe(
            &container,
            shell(&container, &["/bin/sh", "/opt/script"]),
        ));
        let events = pipeline.settle();
        let script = events
            .last()
            .unwrap()
            .process
            .as_ref()
            .unwrap()
            .script
            .clone();
        let expected = digest(&[&[byte], &b"-script"[..]].concat());
        assert_eq!(script.unwrap().sha256(), Some(expected));
    }
    drop(mapped.stdin.take());
    assert!(mapped.wait().unwrap().success());
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn a_script_whose_name_is_gone_is_read_from_the_shell_that_holds_it() {
    let mut container = Container::start("", &[]);
    container.sh("printf 'read line\\n' > /opt/script; ln -s busybox /bin/ash");
    // A shell in the container, which is the process of the event. It waits by itself: a program would outlive it.
    let mut shell_process = Command::new("nsenter")
        .args([
            &format!("--mount=/proc/{}/ns/mnt", container.pid()),
            "/bin/ash",
            "/opt/script",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = shell_process.id();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !has_open(pid, "/opt/script") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    container.sh("rm /opt/script");
    let mut observation = observe(&container, shell(&container, &["ash", "script"]));
    observation.event.process.pid = pid;
    let mut pipeline = Pipeline::new();
    pipeline.observe(observation);
    let events = pipeline.settle();
    shell_process.kill().unwrap();
    shell_process.wait().unwrap();
    let script = events[0].process.as_ref().unwrap().script.clone().unwrap();
    assert_eq!(script.sha256(), Some(digest(b"read line\n")));
    assert_eq!(
        (script.path.to_string().as_str(), script.provenance),
        ("/opt/script", Provenance::Added)
    );
}

fn has_open(pid: u32, path: &str) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut targets = entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target.to_str() == Some(path))
}

#[test]
fn a_file_without_a_format_is_the_script_of_the_shell_that_reads_it() {
    let mut container = Container::start("", &[]);
    container.sh("printf 'echo no format' > /opt/plain");
    let mut pipeline = Pipeline::new();
    pipeline.observe(observe(&container, shell(&container, &["sh"])));
    let fd = container.open("/opt/plain");
    let file: FileFacts = facts(&fd, "/opt/plain");
    let mut refused = event(
        &container,
        Payload::ExecNoFormat {
            file: Box::new(file),
        },
    );
    // As fanotify tells it.
    refused.process.start_ns = 0;
    pipeline.observe(Observation {
        event: refused,
        file: Some(fd),
        scripts: Vec::new(),
        named: None,
    });
    let events = pipeline.settle();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].payload, EnrichedPayload::ScriptRun);
    let process = events[1].process.as_ref().unwrap();
    assert_eq!(
        process.binary.as_ref().unwrap().path.to_string(),
        "/bin/busybox"
    );
    let script = process.script.as_ref().unwrap();
    assert_eq!(
        (script.sha256(), script.provenance),
        (Some(digest(b"echo no format")), Provenance::Added)
    );
    assert_eq!(script.contents, Some(Text::from("echo no format")));
}
