//! What findings say of containers, by every engine; containers that run before the watcher does; ordinary containers.

use std::fs;

use model::finding::{FindingResult, Label};
use testkit::{
    Engine, Image, Run, engines,
    engines::{Podman, Runc},
};

use crate::{
    stimuli::sha256,
    watcher::{Options, Watcher, categories, described},
};

/// A busybox that nobody else has: its hash stands for a known-bad one. busybox acts by the name it is called by.
fn marked_busybox(mark: &str) -> Vec<u8> {
    let mut program = fs::read("/bin/busybox").unwrap();
    program.extend_from_slice(mark.as_bytes());
    program
}

fn every_engine() -> Vec<Box<dyn Engine>> {
    let mut engines = engines::all();
    engines.push(Box::new(Podman::rootless()));
    engines
}

fn label<'a>(result: &'a FindingResult, name: &str) -> Option<&'a str> {
    let Label { value, .. } = result.finding.containers[0]
        .labels
        .iter()
        .find(|label| label.name == name)?;
    Some(value)
}

#[test]
fn a_finding_names_container_image_digest_and_labels() {
    let known = marked_busybox("names container image digest and labels");
    let image = Image::busybox("example.test/team/app:v1")
        .file("/opt/true", 0o755, &known)
        .label("from-image", "yes");
    let mut engines = every_engine();
    let watcher = Watcher::start_with(&Options {
        intel: &format!("{},test-family\n", sha256(&known)),
        ..Options::default()
    });
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let run = Run::new("hw-e2e-named", &image).label("from-run", "it's");
            let container = engine.run(&run);
            assert!(engine.exec(&container, &["/opt/true"]).status.success());
            (engine.name(), container)
        })
        .collect();
    let state = watcher.stop();
    for (engine, container) in containers {
        let found = state.findings_of(&container.name);
        assert_eq!(
            categories(&found),
            ["Execution: Built in Malicious Binary Executed"],
            "{engine}: {} is not in {}",
            container.name,
            described(&state.findings(""))
        );
        let about = &found[0].finding.containers[0];
        assert_eq!(about.uri, "example.test/team/app:v1", "{engine}");
        assert_eq!(
            label(&found[0], "from-run"),
            Some("it's"),
            "{engine}: {about:?}"
        );
        assert_eq!(
            label(&found[0], "from-image"),
            Some("yes"),
            "{engine}: {about:?}"
        );
        assert!(about.create_time.is_some(), "{engine}: {about:?}");
        // A runc bundle does not say what image it was made from.
        if engine != "runc" {
            assert!(about.image_id.contains("sha256:"), "{engine}: {about:?}");
        }
        let process = &found[0].finding.processes[0];
        let binary = process.binary.as_ref().unwrap();
        assert_eq!(
            (binary.path.as_str(), binary.sha256.as_str()),
            ("/opt/true", sha256(&known).as_str())
        );
    }
}

#[test]
fn a_container_that_ran_before_the_watcher_is_covered() {
    let known = marked_busybox("ran before the watcher");
    let image = Image::busybox("example.test/early:v1").file("/opt/sleep", 0o755, &known);
    let mut engines = every_engine();
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let run = Run::new("hw-e2e-early", &image).command(&["/opt/sleep", "100000"]);
            (engine.name(), engine.run(&run))
        })
        .collect();
    let watcher = Watcher::start_with(&Options {
        intel: &sha256(&known),
        ..Options::default()
    });
    // It says so only when it has found them. More than five, on a machine that runs others, are not named.
    let said = &watcher.watching;
    for (engine, container) in &containers {
        assert!(
            said.contains(&container.name) || said.contains("containers run now"),
            "{engine}: {said}"
        );
    }
    let state = watcher.stop();
    for (engine, container) in containers {
        let found = state.findings_of(&container.name);
        assert_eq!(
            categories(&found),
            ["Execution: Built in Malicious Binary Executed"],
            "{engine}"
        );
    }
}

#[test]
fn an_ordinary_container_raises_nothing() {
    let image = Image::busybox("example.test/ordinary:v1")
        .file("/opt/script", 0o755, b"#!/bin/sh\nls / | wc -l\n")
        .file("/etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n");
    let mut engines = every_engine();
    let watcher = Watcher::start();
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let container = engine.run(&Run::new("hw-e2e-ordinary", &image).tmpfs("/run"));
            let work = "set -e; /opt/script; echo text > /tmp/file; cat /tmp/file; chmod 600 /tmp/file; \
                        cp /opt/script /tmp/copy; /tmp/copy; chmod 755 /bin/busybox; ls -l /bin; \
                        mkdir -p /run/a/b; mv /tmp/copy /run/a/b; /run/a/b/copy; rm -r /run/a; \
                        for i in 1 2 3 4 5 6 7 8 9; do /bin/true & done; wait";
            let output = engine.exec(&container, &["/bin/sh", "-c", work]);
            assert!(output.status.success(), "{output:?}");
            (engine.name(), container)
        })
        .collect();
    let state = watcher.stop();
    for (engine, container) in containers {
        let found = state.findings_of(&container.name);
        assert!(found.is_empty(), "{engine}: {}", described(&found));
    }
}

#[test]
fn a_program_run_again_and_again_is_one_finding_that_counts() {
    const TIMES: u64 = 500;
    let known = marked_busybox("run again and again");
    let image = Image::busybox("example.test/repeats:v1").file("/opt/true", 0o755, &known);
    let mut engine = Runc::start();
    engine.load(&image);
    let watcher = Watcher::start_with(&Options {
        intel: &sha256(&known),
        ..Options::default()
    });
    let container = engine.run(&Run::new("hw-e2e-repeats", &image));
    let script = format!("i=0; while [ $i -lt {TIMES} ]; do /opt/true; i=$((i+1)); done");
    assert!(
        engine
            .exec(&container, &["/bin/sh", "-c", &script])
            .status
            .success()
    );
    let state = watcher.stop();
    let found = state.findings_of(&container.name);
    assert_eq!(found.len(), 1, "{}", described(&state.findings("")));
    assert_eq!(
        found[0].finding.source_properties[store::OCCURRENCES],
        TIMES,
        "{}",
        described(&found)
    );
    let lines = fs::read_to_string(state.announced()).unwrap();
    let own: Vec<_> = lines
        .lines()
        .filter(|line| line.contains(&container.name))
        .collect();
    assert_eq!(own.len(), 1, "{own:#?}");
}
