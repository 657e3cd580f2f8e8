//! Everything that a container can choose, chosen badly: the finding is right, JSON is valid, terminals stay clean.

use std::fs;

use detect::samples;
use model::finding::FindingResult;
use testkit::{Engine, Image, Run, engines::Runc};

use crate::watcher::{State, Watcher, described, hullwatch};

/// Clears a screen, sets its title, forges a second line, turns reading direction, is no UTF-8.
const HOSTILE: &str = r"\033[2J\033]0;owned\007\nFORGED LINE\r\342\200\256gpj.\377\376";

/// The same in the name of a container, as an annotation of a runc bundle gives it.
const NAME: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\nFORGED LINE\r\u{202e}gpj.";

/// Where the image has a program whose hash is known.
const KNOWN: &str = "/opt/known";

struct Case {
    name: &'static str,
    /// For `/bin/sh -c` in the container.
    script: String,
    /// What must be in the finding.
    check: fn(&FindingResult),
}

fn cases() -> Vec<Case> {
    let case = |name, script: String, check| Case {
        name,
        script,
        check,
    };
    vec![
        case(
            "path",
            format!(r#"p="/tmp/$(printf '{HOSTILE}')"; cp {KNOWN} "$p"; "$p""#),
            |result| {
                let binary = result.finding.processes[0].binary.as_ref().unwrap();
                assert!(
                    binary.path.starts_with(
                        "/tmp/\u{1b}[2J\u{1b}]0;owned\u{7}\nFORGED LINE\r\u{202e}gpj."
                    ),
                    "{:?}",
                    binary.path
                );
                assert!(binary.path.ends_with("\\xff\\xfe"), "{:?}", binary.path);
            },
        ),
        case(
            "argument",
            format!(r#"{KNOWN} "$(printf '{HOSTILE}')""#),
            |result| {
                let args = &result.finding.processes[0].args;
                assert_eq!(args.len(), 2);
                assert!(
                    args[1].contains("owned") && args[1].ends_with("\\xff\\xfe"),
                    "{args:?}"
                );
            },
        ),
        case(
            "argv0",
            format!(r#"exec -a "$(printf '{HOSTILE}')" {KNOWN}"#),
            |result| {
                assert!(result.finding.processes[0].args[0].contains("owned"));
            },
        ),
        case(
            "environment",
            format!(r#"env "A$(printf '{HOSTILE}')=$(printf '{HOSTILE}')" {KNOWN}"#),
            |result| {
                let names = &result.finding.processes[0].env_variables;
                assert!(
                    names.iter().any(|variable| variable.name.contains("owned")),
                    "{names:?}"
                );
            },
        ),
        case(
            "many_arguments",
            format!("{KNOWN} $(seq 1 100000)"),
            |result| {
                let process = &result.finding.processes[0];
                assert!(process.arguments_truncated);
                assert_eq!(process.args[..4], [KNOWN, "1", "2", "3"]);
            },
        ),
        case(
            "megabyte",
            format!(
                r#"w=$(head -c 100000 /dev/zero | tr '\0' x); {KNOWN} $w $w $w $w $w $w $w $w $w $w"#
            ),
            |result| {
                let process = &result.finding.processes[0];
                assert!(process.arguments_truncated);
                assert!(process.args[1].starts_with("xxxxxxxx"));
            },
        ),
        case(
            "megabyte_environment",
            format!(
                r#"w=$(head -c 100000 /dev/zero | tr '\0' x); env A=$w B=$w C=$w D=$w E=$w F=$w G=$w H=$w I=$w J=$w {KNOWN}"#
            ),
            |result| assert!(result.finding.processes[0].env_variables_truncated),
        ),
        case(
            "deep_path",
            format!(
                r#"cd /tmp; d=$(head -c 200 /dev/zero | tr '\0' d); for i in $(seq 1 18); do mkdir $d; cd $d; done; cp {KNOWN} x; ./x"#
            ),
            |result| {
                let binary = result.finding.processes[0].binary.as_ref().unwrap();
                assert!(
                    binary.path.ends_with("/x") && binary.path.len() > 3600,
                    "{}",
                    binary.path.len()
                );
            },
        ),
    ]
}

#[test]
fn what_a_container_chooses_is_reported_and_does_no_harm() {
    let image = Image::busybox("example.test/hostile:v1").file(
        KNOWN,
        0o755,
        &samples::BUILT_IN_PROGRAM.bytes(),
    );
    let mut runc = Runc::start();
    let watcher = Watcher::start();
    let ran: Vec<(Case, String)> = cases()
        .into_iter()
        .map(|case| {
            let name = format!("{NAME}{}", case.name);
            let run = Run::new(&format!("hw-e2e-{}", case.name), &image)
                .label("io.kubernetes.cri.container-name", &name)
                .label("hostile", "\u{1b}[2J\nFORGED LINE\r\u{202e}");
            let container = runc.run(&run);
            let output = runc.exec(&container, &["/bin/sh", "-c", &case.script]);
            assert!(output.status.success(), "{}: {output:?}", case.name);
            (case, name)
        })
        .collect();
    let announced = watcher.announced();
    let state = watcher.stop();
    for (case, name) in &ran {
        let found = state.findings_of(name);
        assert_eq!(found.len(), 1, "{}: {}", case.name, described(&found));
        (case.check)(&found[0]);
        assert_shown_cleanly(&state, &found[0], case.name);
    }
    // One line, one finding: nothing a container says makes a line of its own.
    for line in fs::read_to_string(announced).unwrap().lines() {
        serde_json::from_str::<FindingResult>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

fn assert_shown_cleanly(state: &State, result: &FindingResult, case: &str) {
    let state_dir = state.path().to_str().unwrap();
    for arguments in [
        &["findings", "list", "--state-dir", state_dir][..],
        &[
            "findings",
            "show",
            &result.finding.name,
            "--state-dir",
            state_dir,
        ],
    ] {
        let output = hullwatch(arguments);
        assert_eq!(output.status.code(), Some(0), "{case}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            assert!(
                !line.starts_with("FORGED LINE"),
                "{case}: a forged line in {arguments:?}"
            );
            if let Some(harmful) = line.chars().find(|c| c.is_control() || *c == '\u{202e}') {
                panic!("{case}: {harmful:?} in {line:?}");
            }
        }
    }
}
