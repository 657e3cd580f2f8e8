//! Verdicts in containers of real engines: each has its own way to write down its layers.

use std::{os::fd::OwnedFd, path::Path, process::Command, sync::Arc};

use model::{
    Text,
    enriched::{EnrichedPayload, File},
    event::{Cgroup, Event, Exec, Namespaces, Observation, Payload, ProcessKey},
    provenance::Provenance::{self, Added, BuiltIn, Modified},
};
use testkit::{Image, Run, engines};

use crate::overlay::{Pipeline, facts};

/// A process with that pid runs the file at `path` in its root.
fn exec(pipeline: &mut Pipeline, pid: u32, path: &str) -> Arc<File> {
    let fd: OwnedFd = std::fs::File::open(format!("/proc/{pid}/root{path}"))
        .unwrap()
        .into();
    let (id, cgroup) = testkit::proc::cgroup(pid);
    let exec = Exec {
        file: facts(&fd, path),
        filename: Text::from(path),
        namespaces: Namespaces {
            mnt: testkit::proc::namespace(pid, "mnt"),
            ..Namespaces::default()
        },
        ..Exec::default()
    };
    let event = Event {
        time: std::time::SystemTime::now().into(),
        process: ProcessKey { pid, start_ns: 1 },
        cgroup: Some(Arc::new(Cgroup {
            id,
            path: Text::from(cgroup),
        })),
        payload: Payload::Exec(Box::new(exec)),
    };
    pipeline.observe(Observation {
        event,
        file: Some(fd),
        scripts: Vec::new(),
        named: None,
    });
    let events = pipeline.settle();
    let exec = events
        .iter()
        .find(|event| event.payload == EnrichedPayload::Exec);
    let process = exec
        .unwrap_or_else(|| panic!("{events:?}"))
        .process
        .as_ref();
    Arc::clone(process.unwrap().binary.as_ref().unwrap())
}

#[test]
fn every_engines_layers_are_found() {
    let image = Image::busybox("example.test/provenance:v1")
        .file("/opt/shipped", 0o755, b"#!/bin/sh\n")
        .file("/opt/patched", 0o755, b"#!/bin/sh\n");
    let rootless: Box<dyn engines::Engine> = Box::new(engines::Podman::rootless());
    for mut engine in engines::all().into_iter().chain([rootless]) {
        engine.load(&image);
        let mut holder = hold_devices();
        let container = engine.run(&Run::new("provenance", &image).tmpfs("/scratch"));
        engine.exec(
            &container,
            &["/bin/sh", "-c", "echo x >> /opt/patched; cp /opt/shipped /opt/new; cp /opt/shipped /scratch/new; chmod 700 /opt/shipped"],
        );
        let mut pipeline = Pipeline::new();
        let expected: &[(&str, Provenance)] = &[
            ("/bin/busybox", BuiltIn),
            ("/opt/shipped", BuiltIn),
            ("/opt/patched", Modified),
            ("/opt/new", Added),
            ("/scratch/new", Added),
        ];
        for (path, expected) in expected {
            let file = exec(&mut pipeline, container.pid, path);
            assert_eq!(
                file.provenance, *expected,
                "{path} in {container:?}: {:?}",
                file.evidence
            );
        }
        // The same container on a root that is mounted anew; what was on the tmpfs is gone.
        holder.kill().unwrap();
        holder.wait().unwrap();
        let container = engine.restart(&container);
        for (path, expected) in &expected[..4] {
            let file = exec(&mut pipeline, container.pid, path);
            assert_eq!(
                file.provenance, *expected,
                "{path} in {container:?}: {:?}",
                file.evidence
            );
        }
        engine.remove(&container);
    }
}

/// Takes the next device numbers of filesystems without a disk, so that a container's root gets others when it is mounted
/// again after they were given back.
fn hold_devices() -> std::process::Child {
    let script =
        "for n in 1 2 3 4 5 6 7 8 9 10; do mount -t tmpfs held /mnt; done; echo; exec sleep 1000";
    started(Command::new("unshare").args([
        "--mount",
        "--propagation=private",
        "sh",
        "-e",
        "-c",
        script,
    ]))
}

/// A bundle as umoci unpacks it: a plain directory, and a list of what the image has in it.
#[test]
fn a_bundle_of_umoci_is_judged_by_its_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let script = "
        umoci init --layout oci
        umoci new --image oci:v1
        umoci unpack --image oci:v1 made
        mkdir -p made/rootfs/bin made/rootfs/proc made/rootfs/old 'made/rootfs/opt/with space'
        cp /bin/busybox made/rootfs/bin
        printf shipped > 'made/rootfs/opt/with space/a'
        printf shipped > made/rootfs/opt/patched
        umoci repack --image oci:v1 made
        umoci unpack --image oci:v1 bundle
    ";
    let output = Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut child = plain_root(&directory.path().join("bundle/rootfs"));
    let root = format!("/proc/{}/root", child.id());
    std::fs::write(format!("{root}/opt/patched"), "other").unwrap();
    std::fs::write(format!("{root}/opt/new"), "shipped").unwrap();
    let mut pipeline = Pipeline::new();
    let verdicts = ["/opt/with space/a", "/opt/patched", "/opt/new"]
        .map(|path| exec(&mut pipeline, child.id(), path).provenance);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(verdicts, [BuiltIn, Modified, Added]);
}

/// Storage drivers without overlay copy the image's tree: Docker's keeps the original as `ID-init`, Podman's lists it.
#[test]
fn a_copied_root_is_judged_by_what_it_was_copied_from() {
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path();
    for (driver, id, original) in [("docker", "aa", "aa-init"), ("podman", "bb", "cc")] {
        let trees = storage.join(driver).join("vfs/dir");
        for tree in [id, original] {
            let script = format!(
                "mkdir -p {tree}/bin {tree}/old {tree}/opt; cp /bin/busybox {tree}/bin; printf shipped > {tree}/opt/a; printf shipped > {tree}/opt/b"
            );
            std::fs::create_dir_all(&trees).unwrap();
            let status = Command::new("sh")
                .args(["-e", "-c", &script])
                .current_dir(&trees)
                .status();
            assert!(status.unwrap().success());
        }
        let lists = storage.join(driver).join("vfs-layers");
        std::fs::create_dir_all(&lists).unwrap();
        if driver == "podman" {
            let list = r#"[{"id":"cc"},{"id":"bb","parent":"cc"}]"#;
            std::fs::write(lists.join("layers.json"), list).unwrap();
        }
        let mut child = plain_root(&trees.join(id));
        let root = format!("/proc/{}/root", child.id());
        std::fs::write(format!("{root}/opt/b"), "other").unwrap();
        std::fs::write(format!("{root}/opt/c"), "shipped").unwrap();
        let mut pipeline = Pipeline::new();
        let verdicts = ["/opt/a", "/opt/b", "/opt/c"]
            .map(|path| exec(&mut pipeline, child.id(), path).provenance);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(verdicts, [BuiltIn, Modified, Added], "{driver}");
    }
}

/// A process in a mount namespace whose root is `directory`, which has `bin/busybox` and `old`.
pub(crate) fn plain_root(directory: &Path) -> std::process::Child {
    let script = "mount --bind $0 $0; cd $0; pivot_root . old; exec /bin/busybox chroot . /bin/busybox sh -c \
                  '/bin/busybox umount -l /old; echo; exec /bin/busybox sleep 1000'";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", script]);
    started(command.arg(directory))
}

/// Starts a command and waits for its first line.
fn started(command: &mut Command) -> std::process::Child {
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "\n");
    child
}
