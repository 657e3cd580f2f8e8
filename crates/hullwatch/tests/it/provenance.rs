//! The provenance matrix: every way in which a program, a library or a script can come to be where it is, by every engine.
//!
//! Each case has bytes of its own, whose hash the list names, so that its finding is told apart by hash. The category says
//! the verdict.

use std::collections::BTreeMap;

use detect::samples::{Kind, Sample};
use model::finding::FindingResult;
use testkit::{Image, Run, engines};

use crate::{
    stimuli,
    watcher::{Options, Watcher, described},
};

/// What a case does in the container. `$p` is the path of the file that the image ships (if it does), `$k` that of the known
/// bytes, `$d` a directory of the case's own in the container's root, `$n` one of `program`,
/// `loaded`, `library` and `script`.
struct Case {
    name: &'static str,
    /// What the image ships at `$p`.
    shipped: Shipped,
    /// For `/bin/sh`.
    act: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Shipped {
    Nothing,
    /// The known bytes themselves.
    Known,
    /// Other bytes, of the same size.
    Other,
    /// The known bytes in a lower layer, removed again by an upper one.
    Removed,
    /// The known bytes in a lower layer's directory, which an upper layer has replaced by another (opaque).
    Hidden,
}

const BUILT_IN: &str = "Built in";
const MODIFIED: &str = "Modified";
const ADDED: &str = "Added";

const fn case(
    name: &'static str,
    shipped: Shipped,
    act: &'static str,
    verdict: &'static str,
) -> Case {
    Case {
        name,
        shipped,
        act,
        verdict,
    }
}

/// `run` stands for running a program, mapping a library or running a script.
const CASES: &[Case] = &[
    case("unchanged", Shipped::Known, "run $p", BUILT_IN),
    case("chmod", Shipped::Known, "chmod 700 $p; run $p", BUILT_IN),
    case(
        "chown",
        Shipped::Known,
        "chown 1000:1000 $p; run $p",
        BUILT_IN,
    ),
    case("touch", Shipped::Known, "touch $p; run $p", BUILT_IN),
    case("linked", Shipped::Known, "ln $p $d/link; run $p", BUILT_IN),
    case("link", Shipped::Known, "ln $p $d/link; run $d/link", ADDED),
    case(
        "renamed",
        Shipped::Known,
        "mv $p $d/renamed; run $d/renamed",
        ADDED,
    ),
    case(
        "copied",
        Shipped::Known,
        "cp $p $d/copied; run $d/copied",
        ADDED,
    ),
    case(
        "parent-copied",
        Shipped::Known,
        "cp -a $d $d.new; run $d.new/shipped",
        ADDED,
    ),
    // overlayfs renames a directory of the image only with `redirect_dir`; mv copies it then.
    case(
        "parent-renamed",
        Shipped::Known,
        "mv $d $d.new; run $d.new/shipped",
        ADDED,
    ),
    case(
        "new-parent-renamed",
        Shipped::Nothing,
        "mkdir $d/a; cp $k $d/a/c; mv $d/a $d/b; run $d/b/c",
        ADDED,
    ),
    case(
        "parent-replaced",
        Shipped::Other,
        "mkdir $d.new; cp $k $d.new/shipped; rm -r $d; mv $d.new $d; run $p",
        MODIFIED,
    ),
    case("in-place", Shipped::Other, "cat $k > $p; run $p", MODIFIED),
    case(
        "same-times",
        Shipped::Other,
        "touch -r $p $d/ref; cat $k > $p; touch -r $d/ref $p; run $p",
        MODIFIED,
    ),
    case(
        "ran-before",
        Shipped::Other,
        "run $p; touch -r $p $d/ref; cat $k > $p; touch -r $d/ref $p; run $p",
        MODIFIED,
    ),
    case(
        "replaced",
        Shipped::Other,
        "cat $k > $d/new; chmod 755 $d/new; mv $d/new $p; run $p",
        MODIFIED,
    ),
    case(
        "recreated",
        Shipped::Other,
        "rm $p; cat $k > $p; chmod 755 $p; run $p",
        MODIFIED,
    ),
    case(
        "recreated-same",
        Shipped::Known,
        "rm $p; cat $k > $p; chmod 755 $p; run $p",
        BUILT_IN,
    ),
    case(
        "directory-recreated",
        Shipped::Other,
        "rm -r $d; mkdir $d; cat $k > $p; chmod 755 $p; run $p",
        MODIFIED,
    ),
    case(
        "new",
        Shipped::Nothing,
        "cat $k > $p; chmod 755 $p; run $p",
        ADDED,
    ),
    case(
        "new-nested",
        Shipped::Nothing,
        "mkdir -p $d/a/b; cp $k $d/a/b/c; run $d/a/b/c",
        ADDED,
    ),
    case(
        "removed-by-image",
        Shipped::Removed,
        "cat $k > $p; chmod 755 $p; run $p",
        ADDED,
    ),
    case(
        "hidden-by-image",
        Shipped::Hidden,
        "cat $k > $p; chmod 755 $p; run $p",
        ADDED,
    ),
    case(
        "tmpfs",
        Shipped::Nothing,
        "cp $k /scratch/$n; run /scratch/$n",
        ADDED,
    ),
    // What was read of the file before is old enough to be remembered, and none of its times changes.
    case(
        "written-mapped",
        Shipped::Other,
        "cp $p /scratch/$n-m; sleep 0.3; run /scratch/$n-m; write-mapped $k /scratch/$n-m; run /scratch/$n-m",
        ADDED,
    ),
    case(
        "mapped-in-place",
        Shipped::Other,
        "run $p; write-mapped $k $p; run $p",
        MODIFIED,
    ),
    case(
        "volume",
        Shipped::Nothing,
        "cp $k /volume/$n; run /volume/$n",
        ADDED,
    ),
    case(
        "covered",
        Shipped::Known,
        "cp $k /covered/$n; run /covered/$n",
        ADDED,
    ),
    case(
        "shm",
        Shipped::Nothing,
        "cp $k /dev/shm/$n; run /dev/shm/$n",
        ADDED,
    ),
    case(
        "symlink",
        Shipped::Known,
        "ln -s $p $d/link; run $d/link",
        BUILT_IN,
    ),
    case(
        "symlink-modified",
        Shipped::Other,
        "cat $k > $p; ln -s $p $d/link; run $d/link",
        MODIFIED,
    ),
];

/// Only programs can be run without a name.
const PROGRAM_CASES: &[Case] = &[
    case(
        "unlinked",
        Shipped::Known,
        "exec 7< $p; rm $p; /proc/self/fd/7; exec 7<&-",
        BUILT_IN,
    ),
    case(
        "unlinked-other",
        Shipped::Other,
        "cat $k > $p; exec 7< $p; rm $p; /proc/self/fd/7; exec 7<&-",
        MODIFIED,
    ),
];

/// A script can be given to a shell.
const SCRIPT_CASES: &[Case] = &[
    case("given", Shipped::Known, "sh $p", BUILT_IN),
    case(
        "given-modified",
        Shipped::Other,
        "cat $k > $p; sh $p",
        MODIFIED,
    ),
    case(
        "given-new",
        Shipped::Nothing,
        "cat $k > $p; sh -e $p",
        ADDED,
    ),
    case(
        "given-relative",
        Shipped::Nothing,
        "cat $k > $p; cd $d; sh ./shipped; cd /",
        ADDED,
    ),
    case("no-magic", Shipped::Known, "run $p", BUILT_IN),
    case(
        "no-magic-new",
        Shipped::Nothing,
        "cat $k > $p; chmod 755 $p; run $p",
        ADDED,
    ),
];

/// A program of the host that is linked dynamically.
const SLEEP: &str = "/bin/sleep";

#[derive(Clone, Copy)]
enum What {
    Program,
    /// A program that the dynamic loader is told to run, and maps like a library.
    Loaded,
    Library,
    Script,
}

impl What {
    fn cases(self) -> impl Iterator<Item = &'static Case> {
        let more: &[Case] = match self {
            Self::Program => PROGRAM_CASES,
            Self::Loaded | Self::Library => &[],
            Self::Script => SCRIPT_CASES,
        };
        CASES.iter().chain(more)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Loaded => "loaded",
            Self::Library => "library",
            Self::Script => "script",
        }
    }

    /// The shell function `run`.
    fn run(self) -> &'static str {
        match self {
            Self::Program | Self::Script => "run() { \"$1\" > /dev/null; }",
            // Mapping takes two seconds: side by side.
            Self::Loaded => "run() { /lib*/ld-linux-*.so.* \"$1\" 2 & }",
            Self::Library => "run() { map-library \"$1\" & }",
        }
    }

    fn category(self, verdict: &str) -> String {
        match self {
            Self::Program | Self::Script => {
                format!("Execution: {verdict} Malicious Binary Executed")
            }
            Self::Loaded | Self::Library => {
                format!("Execution: {verdict} Malicious Library Loaded")
            }
        }
    }

    /// Bytes that no other case has. The names are of one length, so that the sizes are the same.
    fn bytes(self, case: &Case, role: &str) -> Vec<u8> {
        let name = format!("matrix {:<8} {:<24} {role:<8}", self.name(), case.name);
        let name: &'static str = Box::leak(name.into_boxed_str());
        if case.name.starts_with("no-magic") {
            return format!("echo {name}\n").into_bytes();
        }
        let kind = match self {
            Self::Program => Kind::Program,
            Self::Library => Kind::Library,
            Self::Script => Kind::Script,
            // What follows a program's own bytes does not matter to it.
            Self::Loaded => return [&std::fs::read(SLEEP).unwrap(), name.as_bytes()].concat(),
        };
        Sample {
            name,
            kind,
            listed: false,
        }
        .bytes()
    }
}

#[test]
fn every_verdict_is_right_in_every_engine() {
    let everything: Vec<(What, &Case)> = [What::Program, What::Loaded, What::Library, What::Script]
        .into_iter()
        .flat_map(|what| what.cases().map(move |case| (what, case)))
        .collect();
    let mut image = Image::busybox("example.test/matrix:v1")
        .file("/bin/map-library", 0o755, &detect::samples::MAPPER.bytes())
        .file("/bin/write-mapped", 0o755, &stimuli::build("write-mapped"))
        .host_program("/bin/host-sleep", SLEEP)
        .directory("/scratch", 0o1777)
        .directory("/volume", 0o755);
    let mut script = String::from("cd /\n");
    for (what, case) in &everything {
        let (directory, known) = (
            directory(*what, case),
            format!("/known/{}-{}", what.name(), case.name),
        );
        let bytes = what.bytes(case, "known");
        image = image
            .file(&known, 0o755, &bytes)
            .directory(&directory, 0o755);
        let path = format!("{directory}/shipped");
        image = match case.shipped {
            Shipped::Nothing => image,
            Shipped::Other => image.file(&path, 0o755, &what.bytes(case, "other")),
            Shipped::Known | Shipped::Removed | Shipped::Hidden => image.file(&path, 0o755, &bytes),
        };
        script.push_str(&format!(
            "{}\nn={} p={path} k={known} d={directory}\n{}\n",
            what.run(),
            what.name(),
            case.act
        ));
    }
    script.push_str("wait\n");
    for what in ["program", "loaded", "library", "script"] {
        image = image.file(&format!("/covered/{what}"), 0o755, b"covered by a mount");
    }
    image = image.layer();
    for (what, case) in &everything {
        let directory = directory(*what, case);
        image = match case.shipped {
            Shipped::Removed => image.whiteout(&format!("{directory}/shipped")),
            Shipped::Hidden => image.directory(&directory, 0o755).opaque(&directory),
            _ => image,
        };
    }
    let hashes: BTreeMap<String, (What, &Case)> = everything
        .iter()
        .map(|(what, case)| (stimuli::sha256(&what.bytes(case, "known")), (*what, *case)))
        .collect();
    assert_eq!(
        hashes.len(),
        everything.len(),
        "every case has bytes of its own"
    );

    let volume = tempfile::tempdir().unwrap();
    let mut engines = engines::all();
    let watcher = Watcher::start_with(&Options {
        intel: &hashes
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n"),
        ..Options::default()
    });
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let own = volume.path().join(engine.name());
            std::fs::create_dir(&own).unwrap();
            let run = Run::new("hw-e2e-matrix", &image)
                .tmpfs("/scratch")
                .tmpfs("/covered")
                .tmpfs("/dev/shm")
                .volume(&own, "/volume", true);
            let container = engine.run(&run);
            let output = engine.exec(&container, &["/bin/sh", "-c", &script]);
            assert!(output.status.success(), "{}: {output:?}", engine.name());
            (engine.name(), container)
        })
        .collect();
    let state = watcher.stop();

    let mut wrong = Vec::new();
    for (engine, container) in containers {
        let found = state.findings_of(&container.name);
        for (hash, (what, case)) in &hashes {
            let categories: Vec<&str> = found
                .iter()
                .filter(|result| is_about(result, hash))
                .map(|result| result.finding.category.as_str())
                .collect();
            let expected = what.category(case.verdict);
            if categories != [expected.as_str()] {
                wrong.push(format!(
                    "{engine}: {} {}: {expected:?}, found {categories:?}",
                    what.name(),
                    case.name
                ));
            }
        }
        let others: Vec<_> = found
            .into_iter()
            .filter(|result| !hashes.keys().any(|hash| is_about(result, hash)))
            .collect();
        if !others.is_empty() {
            wrong.push(format!("{engine}: besides: {}", described(&others)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        4 * everything.len(),
        wrong.join("\n")
    );
}

fn directory(what: What, case: &Case) -> String {
    format!("/case/{}/{}", what.name(), case.name)
}

fn is_about(result: &FindingResult, sha256: &str) -> bool {
    // One about what was not seen has none.
    let processes = result.finding.processes.iter();
    let mut files = processes.flat_map(|process| {
        let (binary, script) = (process.binary.iter(), process.script.iter());
        binary.chain(script).chain(&process.libraries)
    });
    files.any(|file| file.sha256 == sha256)
}

#[test]
fn a_change_outlives_a_restart() {
    let (known, other) = (
        b"#!/bin/sh\n# known after a restart\n",
        b"#!/bin/sh\n# shipped\n",
    );
    let image = Image::busybox("example.test/restart:v1")
        .file("/opt/tool", 0o755, other)
        .file("/known", 0o755, known);
    let mut engines = engines::all();
    let watcher = Watcher::start_with(&Options {
        intel: &stimuli::sha256(known),
        ..Options::default()
    });
    let containers: Vec<_> = engines
        .iter_mut()
        .map(|engine| {
            engine.load(&image);
            let container = engine.run(&Run::new("hw-e2e-restart", &image));
            assert!(
                engine
                    .exec(&container, &["/bin/cp", "/known", "/opt/tool"])
                    .status
                    .success()
            );
            let container = engine.restart(&container);
            assert!(engine.exec(&container, &["/opt/tool"]).status.success());
            (engine.name(), container)
        })
        .collect();
    let state = watcher.stop();
    for (engine, container) in containers {
        let found = state.findings_of(&container.name);
        let categories: Vec<&str> = found
            .iter()
            .map(|result| result.finding.category.as_str())
            .collect();
        assert_eq!(
            categories,
            ["Execution: Modified Malicious Binary Executed"],
            "{engine}"
        );
    }
}
