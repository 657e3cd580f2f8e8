//! Every way a file can come to be run or loaded, and the verdict on it.

use std::os::unix::fs::MetadataExt;

use model::{
    enriched::{Content, EnrichedEvent, File},
    event::Payload,
    provenance::{MissingReason, Provenance, Sha256, UnknownReason},
};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use sha2::Digest;

use crate::overlay::{Container, Pipeline, exec, facts, open_of, process_key};

use Provenance::{Added, BuiltIn, Modified};

/// What is done in the container, then the path that is run, and the verdict.
const CASES: &[(&str, &str, &str, Provenance)] = &[
    ("unchanged", "true", "/usr/bin/tool", BuiltIn),
    ("chmod", "chmod 700 /usr/bin/tool", "/usr/bin/tool", BuiltIn),
    ("chown", "chown 7:7 /usr/bin/tool", "/usr/bin/tool", BuiltIn),
    ("touch", "touch /usr/bin/tool", "/usr/bin/tool", BuiltIn),
    (
        "hard link, by the old name",
        "ln /usr/bin/tool /opt/new",
        "/usr/bin/tool",
        BuiltIn,
    ),
    (
        "hard link, by the new name",
        "ln /usr/bin/tool /opt/new",
        "/opt/new",
        Added,
    ),
    ("rename", "mv /usr/bin/tool /opt/new", "/opt/new", Added),
    (
        "rename to another image path",
        "mv /usr/bin/tool /usr/bin/other",
        "/usr/bin/other",
        Modified,
    ),
    (
        "rename and back",
        "mv /usr/bin/tool /opt/new; mv /opt/new /usr/bin/tool",
        "/usr/bin/tool",
        BuiltIn,
    ),
    (
        "renamed directory",
        "mv /usr/bin /usr/moved",
        "/usr/moved/tool",
        Added,
    ),
    (
        "renamed directory and back",
        "mv /usr/bin /usr/x; mv /usr/x /usr/bin",
        "/usr/bin/tool",
        BuiltIn,
    ),
    (
        "patched in place",
        "printf X | dd of=/usr/bin/tool conv=notrunc",
        "/usr/bin/tool",
        Modified,
    ),
    (
        "appended",
        "printf X >> /usr/bin/tool",
        "/usr/bin/tool",
        Modified,
    ),
    ("truncated", ": > /usr/bin/tool", "/usr/bin/tool", Modified),
    (
        "patched and back again",
        "printf X | dd of=/usr/bin/tool conv=notrunc; printf t | dd of=/usr/bin/tool conv=notrunc",
        "/usr/bin/tool",
        BuiltIn,
    ),
    (
        "same size, times put back",
        "touch -r /usr/bin/tool /opt/times; printf X | dd of=/usr/bin/tool conv=notrunc; \
         touch -r /opt/times /usr/bin/tool",
        "/usr/bin/tool",
        Modified,
    ),
    (
        "replaced by rename",
        "printf evil > /opt/new; mv /opt/new /usr/bin/tool",
        "/usr/bin/tool",
        Modified,
    ),
    (
        "deleted, re-created, other bytes",
        "rm /usr/bin/tool; printf evil > /usr/bin/tool",
        "/usr/bin/tool",
        Modified,
    ),
    (
        "deleted, re-created, same bytes",
        "rm /usr/bin/tool; printf 'the first program' > /usr/bin/tool",
        "/usr/bin/tool",
        BuiltIn,
    ),
    ("copied", "cp /usr/bin/tool /opt/new", "/opt/new", Added),
    (
        "copied over another",
        "cp /usr/bin/tool /usr/bin/other",
        "/usr/bin/other",
        Modified,
    ),
    ("new", "printf evil > /opt/new", "/opt/new", Added),
    (
        "new in a new directory",
        "mkdir /opt/a; printf evil > /opt/a/new",
        "/opt/a/new",
        Added,
    ),
    ("tmpfs", "printf evil > /run/new", "/run/new", Added),
    (
        "copied to tmpfs",
        "cp /usr/bin/tool /run/tool",
        "/run/tool",
        Added,
    ),
    (
        "/dev/shm",
        "printf evil > /dev/shm/new",
        "/dev/shm/new",
        Added,
    ),
    ("volume", "printf evil > /volume/new", "/volume/new", Added),
    (
        "bind mount of a file over an image file",
        "cp /usr/bin/tool /opt/x; mount -o bind /opt/x /usr/bin/tool",
        "/usr/bin/tool",
        Added,
    ),
    (
        "bind mount of an image file to another path",
        "touch /opt/x; mount -o bind /usr/bin/tool /opt/x",
        "/opt/x",
        Added,
    ),
    (
        "bind mount of an image file over another",
        "mount -o bind /usr/bin/other /usr/bin/tool",
        "/usr/bin/tool",
        Added,
    ),
    (
        "bind mount of an image directory",
        "mount -o bind /usr/bin /opt",
        "/opt/tool",
        Added,
    ),
    (
        "image directory bound to itself",
        "mount -o bind /usr/bin /usr/bin",
        "/usr/bin/tool",
        BuiltIn,
    ),
    (
        "tmpfs over an image directory",
        "mount -t tmpfs x /usr/bin; printf 'the first program' > /usr/bin/tool",
        "/usr/bin/tool",
        Added,
    ),
    (
        "a directory instead of a file",
        "rm /usr/bin/tool; mkdir /usr/bin/tool; printf evil > /usr/bin/tool/x",
        "/usr/bin/tool/x",
        Added,
    ),
    (
        "a file instead of a directory",
        "rm -r /usr/lib; printf evil > /usr/lib",
        "/usr/lib",
        Added,
    ),
    (
        "a file instead of a link",
        "rm /usr/bin/link; printf evil > /usr/bin/link",
        "/usr/bin/link",
        Modified,
    ),
    (
        "a file instead of a link, with the bytes it led to",
        "rm /usr/bin/link; printf 'the first program' > /usr/bin/link",
        "/usr/bin/link",
        BuiltIn,
    ),
    (
        "directory replaced, so opaque, old bytes",
        "rm -r /usr/bin; mkdir /usr/bin; printf 'the first program' > /usr/bin/tool",
        "/usr/bin/tool",
        BuiltIn,
    ),
];

#[test]
fn programs_and_libraries_get_the_same_right_verdict() {
    let mut wrong = Vec::new();
    for (name, commands, path, expected) in CASES {
        let mut container = Container::start("", &[]);
        let mut pipeline = Pipeline::new();
        // The image's file has been seen before, so that every cache is warm with the innocent answer.
        let fd = container.open("/usr/bin/tool");
        pipeline.exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
        container.sh(commands);
        for is_library in [false, true] {
            let fd = container.open(path);
            let facts = facts(&fd, path);
            let expected_digest =
                digest(&std::fs::read(format!("/proc/{}/root{path}", container.pid())).unwrap());
            let file = if is_library {
                pipeline.load(&container, facts, Some(fd))
            } else {
                pipeline.exec(&container, facts, Some(fd))
            };
            if file.provenance != *expected {
                wrong.push(format!(
                    "{name} (library: {is_library}): {:?} {:?}",
                    file.provenance, file.evidence
                ));
            }
            if file.sha256() != Some(expected_digest) {
                wrong.push(format!(
                    "{name} (library: {is_library}): {:?}",
                    file.content
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub(crate) fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

#[test]
fn the_verdict_is_the_same_after_a_restart() {
    let mut container = Container::start("", &[]);
    container.sh("printf X | dd of=/usr/bin/tool conv=notrunc; chmod 700 /usr/bin/other; printf evil > /opt/new");
    for is_restarted in [false, true] {
        if is_restarted {
            container.restart();
        }
        let mut pipeline = Pipeline::new();
        for (path, expected) in [
            ("/usr/bin/tool", Modified),
            ("/usr/bin/other", BuiltIn),
            ("/opt/new", Added),
        ] {
            let fd = container.open(path);
            let file = pipeline.exec(&container, facts(&fd, path), Some(fd));
            assert_eq!(
                file.provenance, expected,
                "{path}, restarted: {is_restarted}"
            );
        }
    }
}

#[test]
fn a_mount_that_came_later_is_known_when_who_ran_the_program_has_ended() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let fd = container.open("/usr/bin/tool");
    pipeline.exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
    container.sh("printf evil > /opt/x; mount -o bind /opt/x /usr/bin/tool");
    let fd = container.open("/usr/bin/tool");
    let mut observation = exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
    // A child of the container's process, of a moment.
    observation.event.process.pid = u32::MAX;
    if let Payload::Exec(exec) = &mut observation.event.payload {
        exec.parent = process_key(&container);
    }
    pipeline.observe(observation);
    let events = pipeline.settle();
    let file = events[0].process.as_ref().unwrap().binary.as_ref().unwrap();
    assert_eq!(file.provenance, Added, "{:?}", file.evidence);
}

/// As by `podman exec`, while the agent was busy.
#[test]
fn who_entered_a_container_and_has_ended_ran_on_the_mounts_of_the_others() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    container.sh("printf evil > /opt/x; mount -o bind /opt/x /usr/bin/tool");
    let fd = container.open("/usr/bin/other");
    pipeline.observe(exec(&container, facts(&fd, "/usr/bin/other"), Some(fd)));
    let fd = container.open("/usr/bin/tool");
    let mut observation = exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
    observation.event.process.pid = u32::MAX;
    if let Payload::Exec(exec) = &mut observation.event.payload {
        exec.parent.pid = 1;
    }
    pipeline.observe(observation);
    let events = pipeline.settle();
    let of = |event: &EnrichedEvent| event.process.as_ref().unwrap().binary.clone().unwrap();
    let provenances: Vec<_> = events.iter().map(|event| of(event).provenance).collect();
    assert_eq!(provenances, [BuiltIn, Added]);
}

#[test]
fn files_without_a_name_are_judged_by_the_one_they_had() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    container.sh("printf evil > /opt/new");
    for (path, expected) in [("/usr/bin/tool", BuiltIn), ("/opt/new", Added)] {
        let fd = container.open(path);
        container.sh(&format!("rm {path}"));
        let mut facts = facts(&fd, path);
        for deleted in ["", " (deleted)"] {
            facts.path = format!("{path}{deleted}").into();
            for is_library in [false, true] {
                let fd = Some(fd.try_clone().unwrap());
                let file: std::sync::Arc<File> = match is_library {
                    true => pipeline.load(&container, facts.clone(), fd),
                    false => pipeline.exec(&container, facts.clone(), fd),
                };
                assert_eq!(file.path.to_string(), path);
                assert_eq!(file.provenance, expected, "{path}");
                // The lower file of the image has not lost its name, only the container's view of it has.
                assert_eq!(file.evidence.unnamed, facts.link_count == 0);
            }
        }
    }
}

#[test]
fn what_never_had_a_name_is_added() {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let directory = format!("/proc/{}/root/opt", container.pid());
    let unnamed = rustix::fs::open(directory, OFlags::TMPFILE | OFlags::RDWR, Mode::RWXU).unwrap();
    rustix::io::write(&unnamed, b"the first program").unwrap();
    let link = std::fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&unnamed)
    ))
    .unwrap();
    let path = link
        .to_str()
        .unwrap()
        .trim_end_matches(" (deleted)")
        .to_owned();
    let file = pipeline.exec(&container, facts(&unnamed, &path), Some(unnamed));
    assert_eq!((file.provenance, file.evidence.unnamed), (Added, true));

    let memfd = rustix::fs::memfd_create("runc", MemfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&memfd, b"the first program").unwrap();
    let mut facts = facts(&memfd, "/memfd:runc");
    facts.is_memfd = true;
    let file = pipeline.exec(&container, facts, Some(memfd));
    assert_eq!((file.provenance, file.evidence.unnamed), (Added, true));
    assert_eq!(file.sha256(), Some(digest(b"the first program")));
}

#[test]
fn without_bytes_only_a_place_in_the_image_that_was_changed_has_no_verdict() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    container.sh("printf evil > /opt/new; printf evil >> /usr/bin/other");
    let mut without_bytes = |path: &str| {
        let mut facts = facts(&container.open(path), path);
        facts.missing = Some(MissingReason::NotificationLost);
        let file = pipeline.exec(&container, facts, None);
        let reason = match file.content {
            Content::Known { .. } => None,
            Content::Missing { reason } => Some(reason),
        };
        (file.provenance, reason)
    };
    let lost = Some(MissingReason::NotificationLost);
    // Its times say that it is the image's own file, which has its bytes.
    assert_eq!(without_bytes("/usr/bin/tool"), (BuiltIn, None));
    let unknown = Provenance::Unknown(UnknownReason::NoContent);
    assert_eq!(without_bytes("/usr/bin/other"), (unknown, lost));
    assert_eq!(without_bytes("/opt/new"), (Added, lost));
}

#[test]
fn another_root_made_inside_does_not_pass_for_the_image() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    // An overlay and a root of its own, where the attacker's file lies in a lower directory.
    container.sh(
        "mkdir -p /run/l/usr/bin /run/u /run/w /run/m; printf evil > /run/l/usr/bin/tool; \
         mount -t overlay overlay -o lowerdir=/run/l,upperdir=/run/u,workdir=/run/w /run/m",
    );
    let fd = container.open("/run/m/usr/bin/tool");
    // As a process reports it that has chroot'ed there.
    let file = pipeline.exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
    assert_eq!(file.provenance, Added, "{:?}", file.evidence);
    assert_eq!(file.path.to_string(), "/run/m/usr/bin/tool");
}

#[test]
fn the_root_of_the_first_process_that_is_seen_does_not_pass_for_the_image() {
    for mut container in [Container::start("", &[]), Container::of_rootless_engine()] {
        container.sh(
            "mkdir -p /run/l/usr/bin /run/l/old /run/u /run/w /run/m; printf evil > /run/l/usr/bin/tool; \
             cp /bin/busybox /run/l/busybox; touch /dev/null",
        );
        let pid = container.sh(
            "/bin/busybox unshare -m /bin/sh -ec 'mount -t overlay overlay -o \
             lowerdir=/run/l,upperdir=/run/u,workdir=/run/w /run/m; cd /run/m; /bin/busybox pivot_root . old; \
             exec /busybox sleep 1000' > /dev/null & echo $!",
        );
        let pid: u32 = pid.parse().unwrap();
        testkit::command::wait_for("its root", || {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            (program == std::path::Path::new("/busybox")).then_some(())
        });
        let fd = open_of(pid, "/usr/bin/tool");
        let mut observation = exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
        observation.event.process.pid = pid;
        if let Payload::Exec(exec) = &mut observation.event.payload {
            let namespace = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).unwrap();
            exec.namespaces.mnt = u32::try_from(namespace.ino()).unwrap();
        }
        let mut pipeline = Pipeline::new();
        pipeline.observe(observation);
        let events = pipeline.settle();
        container.sh(&format!("/bin/busybox kill {pid}"));
        let process = events[0].process.as_ref().unwrap();
        let file = process.binary.as_ref().unwrap();
        assert_eq!(file.provenance, Added, "{:?}", file.evidence);
    }
}

#[test]
fn an_added_file_that_is_known_tells_what_it_was_copied_from() {
    let mut container = Container::start(
        "",
        &["printf 'the first program' > opt/hidden", "rm opt/hidden"],
    );
    let mut pipeline = Pipeline::new();
    container.sh("cp /usr/bin/tool /run/copy; printf 'no such program' > /opt/new");
    pipeline
        .known
        .0
        .lock()
        .unwrap()
        .extend([digest(b"the first program"), digest(b"no such program")]);
    for (path, expected) in [
        ("/run/copy", Some("/usr/bin/tool".into())),
        ("/opt/new", None),
    ] {
        let fd = container.open(path);
        let file = pipeline.exec(&container, facts(&fd, path), Some(fd));
        assert_eq!(
            (file.matches.len(), file.evidence.same_content_as.clone()),
            (1, expected),
            "{path}"
        );
    }
}
