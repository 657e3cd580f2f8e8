//! Every way in which a script comes to run is judged.

use std::collections::BTreeMap;

use testkit::{Engine, Image, Run, engines::Runc};

use crate::{
    stimuli,
    watcher::{Options, Watcher, categories, described},
};

/// A name, and what runs the script `$p` in a container.
const WAYS: &[(&str, &str)] = &[
    ("interpreter of a script", "run '#!'$p"),
    (
        "interpreter of an interpreter",
        "script_at '#!'$p $p.1; run '#!'$p.1",
    ),
    (
        "interpreter by a link",
        "script_at '#!'$p $p.1; ln -s $p.1 $p.2; $p.2",
    ),
];

#[test]
fn a_known_script_is_found_whatever_runs_it() {
    let image = Image::busybox("example.test/scripts:v1");
    let mut hashes = BTreeMap::new();
    let mut acts = "script() { echo \"$1\"; echo \"# $p\"; }
        script_at() { script \"$1\" > $2; chmod 755 $2; }
        run() { script_at \"$1\" $p.run; $p.run; }\n"
        .to_owned();
    for (number, (way, act)) in WAYS.iter().enumerate() {
        let path = format!("/tmp/known-{number}");
        acts.push_str(&format!("p={path}; script_at '#!/bin/sh' $p; {act}\n"));
        hashes.insert(
            stimuli::sha256(format!("#!/bin/sh\n# {path}\n").as_bytes()),
            *way,
        );
    }
    let intel: Vec<&str> = hashes.keys().map(String::as_str).collect();
    let watcher = Watcher::start_with(&Options {
        intel: &intel.join("\n"),
        ..Options::default()
    });
    let mut engine = Runc::start();
    engine.load(&image);
    let container = engine.run(&Run::new("hw-e2e-scripts", &image));
    let output = engine.exec(&container, &["/bin/sh", "-ec", &acts]);
    assert!(output.status.success(), "{output:?}");
    let found = watcher.stop().findings_of(&container.name);
    for (hash, way) in &hashes {
        let mut about = found.clone();
        about.retain(|result| {
            let process = &result.finding.processes[0];
            let script = process.script.as_ref();
            script.is_some_and(|script| script.sha256 == *hash)
        });
        assert_eq!(
            categories(&about),
            ["Execution: Added Malicious Binary Executed"],
            "{way}: {}",
            described(&found)
        );
    }
    assert_eq!(found.len(), hashes.len(), "{}", described(&found));
}
