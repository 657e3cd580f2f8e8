//! A process that leaves its container's mounts for the host's is still the container's.

use std::fs;

use model::finding::FindingResult;
use testkit::{
    Engine, Image, Run,
    command::wait_for,
    engines::{Containerd, Runc},
};

use crate::{
    stimuli,
    watcher::{Options, Watcher, findings},
};

/// runc and containerd name control groups as the user likes: the name alone does not tell that it is a container's.
#[test]
fn a_process_in_the_hosts_mounts_is_its_containers_by_control_group() {
    let mut known = fs::read("/bin/busybox").unwrap();
    known.extend_from_slice(b"a program of the host, started from a container");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sleep");
    fs::copy("/bin/busybox", &program).unwrap();
    fs::write(&program, &known).unwrap();

    let image = Image::busybox("example.test/escape:v1");
    let mut engines: [Box<dyn Engine>; 2] =
        [Box::new(Runc::start()), Box::new(Containerd::start())];
    let watcher = Watcher::start_with(&Options {
        intel: &stimuli::sha256(&known),
        ..Options::default()
    });
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let mut run = Run::new("hw-e2e-escape", &image);
            (run.host_pid, run.privileged) = (true, true);
            let container = engine.run(&run);
            // This test is a process of the host. Nothing watches the host's files: the program is read while it runs.
            let escape = format!(
                "nsenter -t {} -m {} 100000 > /dev/null 2>&1 &",
                std::process::id(),
                program.display()
            );
            let output = engine.exec(&container, &["/bin/sh", "-c", &escape]);
            assert!(output.status.success(), "{output:?}");
            container
        })
        .collect();
    for container in &containers {
        wait_for("the finding about the host's program", || {
            let found = findings(watcher.state_dir(), "");
            let is_it = |result: &FindingResult| {
                let finding = &result.finding;
                finding.category == "Execution: Added Malicious Binary Executed"
                    && finding
                        .containers
                        .iter()
                        .any(|it| it.name == container.name)
            };
            found.iter().any(is_it).then_some(())
        });
    }
}
