//! Indicators that are imported while the watcher runs.

use std::fs;

use detect::samples;
use testkit::{Engine, Image, Run, command::wait_for, engines::Runc};

use crate::{
    stimuli,
    watcher::{Watcher, categories, findings, hullwatch, stderr},
};

#[test]
fn what_runs_already_is_found_when_a_list_knows_it_later() {
    // busybox acts by the name it is called by.
    let mut program = fs::read("/bin/busybox").unwrap();
    program.extend_from_slice(b"known later");
    let script = b"#!/bin/sh\nwhile :; do /bin/sleep 1000; done\n# known later\n";
    let library = samples::UNLISTED_PROGRAM.bytes();
    let image = Image::busybox("example.test/later:v1")
        .file("/opt/sleep", 0o755, &program)
        .file("/opt/script", 0o755, script)
        .file("/opt/lib.so", 0o644, &library)
        .file("/opt/map", 0o755, &stimuli::build("map"));
    let all = "/opt/script & /opt/map /opt/lib.so & exec /opt/sleep 1000";
    let mut engine = Runc::start();
    engine.load(&image);
    let watcher = Watcher::start();
    let run = Run::new("hw-e2e-later", &image).command(&["/bin/sh", "-c", all]);
    let container = engine.run(&run);
    let store = store::Store::open_read_only(watcher.state_dir()).unwrap();
    wait_for("the container to be known", || {
        let mut containers = store.containers().unwrap().into_iter();
        containers.find(|state| state.name == container.name)
    });
    wait_for("all to run", || {
        let output = engine.exec(
            &container,
            &[
                "/bin/sh",
                "-c",
                "grep -q lib.so /proc/[0-9]*/maps && pidof script && pidof sleep",
            ],
        );
        output.status.success().then_some(())
    });
    assert_eq!(findings(watcher.state_dir(), "findingClass=\"THREAT\""), []);

    let list = watcher.state_dir().join("later.txt");
    let hashes = [&program[..], script, &library].map(stimuli::sha256);
    fs::write(&list, hashes.join("\n")).unwrap();
    let output = hullwatch(&[
        "intel",
        "import",
        list.to_str().unwrap(),
        "--state-dir",
        watcher.state_dir().to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = wait_for("three findings", || {
        let found = findings(watcher.state_dir(), "findingClass=\"THREAT\"");
        (found.len() >= 3).then_some(found)
    });
    assert_eq!(
        categories(&found),
        [
            "Execution: Built in Malicious Binary Executed",
            "Execution: Built in Malicious Binary Executed",
            "Execution: Built in Malicious Library Loaded",
        ]
    );
    watcher.stop();
}
