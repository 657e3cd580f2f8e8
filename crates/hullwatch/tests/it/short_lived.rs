//! Containers that are gone before anybody could look at them, with every engine: each is found and judged like any other.

use std::fs;

use testkit::{Image, Run, engines};

use crate::{
    stimuli,
    watcher::{Options, Watcher, categories, described},
};

/// Containers of each engine.
const COUNT: usize = 20;

/// What a finding is called when nobody could tell where the file came from.
const UNKNOWN: &str = "Execution: Malicious Binary Executed";

/// Below an engine's directory.
const ROOTS: [&str; 5] = [
    "state",
    "state/io.containerd.runtime.v2.task",
    "storage",
    "data",
    "exec/containerd/daemon/io.containerd.runtime.v2.task",
];

#[test]
fn programs_of_containers_that_live_for_an_instant_are_judged_and_named() {
    // busybox acts by the name it is called by.
    let mut known = fs::read("/bin/busybox").unwrap();
    known.extend_from_slice(b"containers that live for an instant");
    let image = Image::busybox("example.test/instant:v1").file("/opt/true", 0o755, &known);
    let mut engines = engines::all();
    for engine in &mut engines {
        engine.load(&image);
    }
    // As it knows where the engines of an ordinary host keep their files.
    let roots: Vec<String> = engines
        .iter()
        .flat_map(|engine| ROOTS.map(|name| format!("{:?}", engine.directory().join(name))))
        .collect();
    let watcher = Watcher::start_with(&Options {
        config: &format!("[engines]\nextra_roots = [{}]\n", roots.join(", ")),
        intel: &stimuli::sha256(&known),
        ..Options::default()
    });
    let built_in = ["Execution: Built in Malicious Binary Executed"];
    let both = [
        "Execution: Added Malicious Binary Executed",
        "Execution: Built in Malicious Binary Executed",
    ];
    let ids = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for engine in &mut engines {
        for number in 0..COUNT {
            let (command, categories): (&[&str], &[&str]) = if number % 2 == 0 {
                (&["/opt/true"], &built_in)
            } else {
                let copy = "cp /opt/true /tmp/true; /opt/true; exec /tmp/true";
                (&["/bin/sh", "-c", copy], &both)
            };
            let mut run = Run::new("hw-e2e-instant", &image).command(command);
            let id_file = ids.path().join(&run.name);
            // With the other engines the name is the id.
            if ["docker", "podman"].contains(&engine.name()) {
                run = run.option(&format!("--cidfile={}", id_file.display()));
            }
            let output = engine.run_to_end(&run);
            assert!(output.status.success(), "{}: {output:?}", engine.name());
            let id = fs::read_to_string(&id_file).unwrap_or_else(|_| run.name.clone());
            expected.push((engine.name(), run.name, id, categories));
        }
    }
    let state = watcher.stop();
    let all = state.findings("");
    for engine in &engines {
        let of_engine: Vec<_> = expected
            .iter()
            .filter(|(of, ..)| *of == engine.name())
            .collect();
        let mut right = 0;
        for (_, name, id, expected) in &of_engine {
            let mut found = all.clone();
            found.retain(|result| {
                let finding = &result.finding;
                finding
                    .containers
                    .iter()
                    .any(|container| container.name == *name)
                    || finding.source_properties.get("Container_Id") == Some(&id.trim().into())
            });
            let found_categories = categories(&found);
            // An engine may have cleaned up before the watcher had its turn. Then it says that it cannot tell, and knows the
            // container by its id alone.
            let is_named = found.iter().all(|result| {
                let containers = &result.finding.containers;
                containers.iter().any(|container| container.name == *name)
            });
            let is_right = is_named && found_categories == *expected;
            let is_honest = found_categories
                .iter()
                .all(|it| *it == UNKNOWN || expected.contains(it));
            assert!(
                is_honest && !found.is_empty(),
                "{}: {name} ({id}) is not in {}",
                engine.name(),
                described(&all)
            );
            right += usize::from(is_right);
        }
        assert!(
            right * 4 >= of_engine.len() * 3,
            "{}: {right} of {COUNT} were told apart",
            engine.name()
        );
    }
}
