//! What was recorded gives the same findings again, without root and without containers.

use std::process::Command;

use model::finding::{FindingClass, FindingResult};

use crate::watcher::{HULLWATCH, Options, Watcher, described, simulate, stderr};

#[test]
fn a_recording_replays_to_the_findings_of_the_watch() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("recording");
    let recording = recording.to_str().unwrap();
    let watcher = Watcher::start_with(&Options {
        arguments: &["--record", recording],
        ..Options::default()
    });
    for id in [
        "added_malicious_binary_executed",
        "modified_malicious_library_loaded",
        "suspicious_openssl_shared_object_loaded",
    ] {
        simulate(watcher.state_dir(), id);
    }
    let watched = watcher.stop().findings("findingClass=\"THREAT\"");
    assert!(watched.len() >= 3, "{}", described(&watched));

    let output = testkit::command::output(
        Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all", HULLWATCH])
            .args(["replay", recording, "--format", "json"]),
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let replayed: Vec<FindingResult> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|result: &FindingResult| result.finding.finding_class == FindingClass::Threat)
        .collect();
    assert_eq!(told(&replayed), told(&watched));
}

/// What findings are about. Their names hold what makes each of them one fact; more evidence may have come to it later.
fn told(findings: &[FindingResult]) -> Vec<String> {
    let mut told: Vec<_> = findings
        .iter()
        .map(|result| {
            let finding = &result.finding;
            let process = &finding.processes[0];
            let (binary, containers) = (&process.binary, &finding.containers);
            format!(
                "{} {} {binary:?} {:?} {containers:?}",
                finding.name, finding.category, process.args
            )
        })
        .collect();
    told.sort();
    told
}
