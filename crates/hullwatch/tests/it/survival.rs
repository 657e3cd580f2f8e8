//! What holds when the watcher is killed.

use std::fs;

use model::finding::FindingResult;
use testkit::command::wait_for;

use crate::watcher::{Options, Watcher, described, hullwatch, stderr};

#[test]
fn what_was_announced_survives_a_kill_and_the_gap_is_reported() {
    let watcher = Watcher::start();
    let state_dir = watcher.state_dir().to_str().unwrap().to_owned();
    let output = hullwatch(&[
        "simulate",
        "built_in_malicious_binary_executed",
        "--runtime",
        "runc",
        "--state-dir",
        &state_dir,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let announced = watcher.announced();
    let name = wait_for("a finding to be announced", || {
        let lines = fs::read_to_string(&announced).unwrap();
        lines.lines().find_map(|line| {
            let result: FindingResult = serde_json::from_str(line).ok()?;
            result
                .finding
                .category
                .contains("Malicious")
                .then_some(result.finding.name)
        })
    });
    let state = watcher.kill();
    let by_name = format!("name=\"{name}\"");
    assert_eq!(
        state.findings(&by_name).len(),
        1,
        "what was announced is stored"
    );

    let watcher = Watcher::start_on(state, &Options::default());
    let state = watcher.stop();
    assert_eq!(state.findings(&by_name).len(), 1, "and stays so");
    let errors = state.findings("findingClass=\"SCC_ERROR\"");
    assert!(
        errors
            .iter()
            .any(|result| result.finding.description.contains("nothing was watched")),
        "{}",
        described(&errors)
    );
}

#[test]
fn two_watchers_do_not_share_a_directory() {
    let watcher = Watcher::start();
    let output = hullwatch(&["run", "--state-dir", watcher.state_dir().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("another watcher"),
        "{}",
        stderr(&output)
    );
    watcher.stop();
}
