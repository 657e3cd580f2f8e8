//! Every way in which a script comes to run is judged.

use std::collections::BTreeMap;

use testkit::{Engine, Image, Run, command::wait_for, engines::Runc};

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
    ("argument", "sh $p"),
    ("through ld.so", "loader /bin/bash $p"),
    ("through ld.so, by a link", "loader /bin/bash-link -e $p"),
    (
        "through ld.so with options",
        "loader --argv0 x --library-path /lib /bin/bash -e $p",
    ),
    (
        "interpreter by a link",
        "script_at '#!'$p $p.1; ln -s $p.1 $p.2; $p.2",
    ),
];

/// The same for scripts on standard input, which only their process leads to.
const WAYS_OF_INPUT: &[(&str, &str)] = &[
    ("standard input", "sh < $p &"),
    ("standard input of bash", "bash < $p &"),
    ("standard input, with arguments", "bash -s a b < $p &"),
    ("standard input, by its name", "bash /dev/stdin < $p &"),
    ("standard input, through ld.so", "loader /bin/bash < $p &"),
];

#[test]
fn a_known_script_is_found_whatever_runs_it() {
    assert_found(WAYS, "");
}

#[test]
fn a_known_script_is_found_on_standard_input() {
    assert_found(WAYS_OF_INPUT, ": < /tmp/never\n");
}

/// As droppers do: by then neither the file nor its process is there.
#[test]
fn a_known_script_is_found_that_deletes_itself_at_once() {
    const TIMES: usize = 40;
    let ways = [
        ("argument", "sh $p"),
        ("argument of bash", "bash -e $p"),
        ("through ld.so", "loader /bin/bash $p"),
        ("standard input", "bash < $p"),
    ];
    let ways: Vec<_> = std::iter::repeat_n(ways, TIMES).flatten().collect();
    // A name that it has as standard input, too.
    assert_found(&ways, "rm /tmp/known-* 2> /dev/null\n");
}

/// `more` ends each script.
fn assert_found(ways: &[(&str, &str)], more: &str) {
    let image = Image::busybox("example.test/scripts:v1")
        .host_program("/bin/bash", "/bin/bash")
        .link("/bin/bash-link", "bash");
    let mut hashes = BTreeMap::new();
    let mut acts = format!(
        "script_at() {{ printf '%s\\n# %s\\n{}' \"$1\" $p > $2; chmod 755 $2; }}
        run() {{ script_at \"$1\" $p.run; $p.run; }}
        loader() {{ /lib*/ld-linux-*.so.* \"$@\"; }}
        mkfifo /tmp/never; exec > /dev/null 2>&1\n",
        more.escape_default()
    );
    for (number, (way, act)) in ways.iter().enumerate() {
        let path = format!("/tmp/known-{number}");
        acts.push_str(&format!("p={path}; script_at '#!/bin/sh' $p; {act}\n"));
        let script = format!("#!/bin/sh\n# {path}\n{more}");
        hashes.insert(stimuli::sha256(script.as_bytes()), *way);
    }
    let intel: Vec<&str> = hashes.keys().map(String::as_str).collect();
    let watcher = Watcher::start_with(&Options {
        intel: &intel.join("\n"),
        ..Options::default()
    });
    let mut engine = Runc::start();
    engine.load(&image);
    // The shell stays: a script that ends at once is found through what started it.
    acts.push_str("touch /tmp/done; : < /tmp/never\n");
    let run = Run::new("hw-e2e-scripts", &image).command(&["/bin/sh", "-c", &acts]);
    let container = engine.run(&run);
    wait_for("all scripts to have run", || {
        let done = engine.exec(&container, &["/bin/test", "-e", "/tmp/done"]);
        done.status.success().then_some(())
    });
    let found = watcher.stop().findings_of(&container.name);
    let mut wrong = Vec::new();
    for (hash, way) in &hashes {
        let mut about = found.clone();
        about.retain(|result| {
            let process = result.finding.processes.first();
            let script = process.and_then(|process| process.script.as_ref());
            script.is_some_and(|script| script.sha256 == *hash)
        });
        if categories(&about) != ["Execution: Added Malicious Binary Executed"] {
            wrong.push(*way);
        }
    }
    let is_right = wrong.is_empty() && found.len() == hashes.len();
    assert!(is_right, "{wrong:#?}\n{}", described(&found));
}
