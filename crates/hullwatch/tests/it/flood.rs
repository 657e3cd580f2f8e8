//! Programs that run as fast as the machine allows: each is in a finding, or counted as lost.

use detect::samples;
use model::finding::FindingResult;
use testkit::{Engine, Image, Run, engines::Runc};

use crate::{
    stimuli,
    watcher::{Options, Watcher, described},
};

const SECONDS: &str = "10";

/// Programs that may be counted both as seen and as lost, and those of others that were lost meanwhile.
const TWICE_MAX: u64 = 1000;

#[test]
fn every_run_is_seen_or_counted_as_lost_and_so_is_a_malicious_one() {
    let image = Image::busybox("example.test/flood:v1")
        .file("/bin/flood", 0o755, &stimuli::build("flood"))
        .file("/sample", 0o755, &samples::UNLISTED_PROGRAM.bytes())
        .file("/known", 0o755, &samples::BUILT_IN_PROGRAM.bytes());
    let mut engine = Runc::start();
    engine.load(&image);
    // One finding for all runs of the program, which counts them.
    let watcher = Watcher::start_with(&Options {
        config: "[detection.detectors.added_binary_executed]\nenabled = true\n",
        ..Options::default()
    });
    let container = engine.run(&Run::new("hw-e2e-flood", &image));
    let script = format!(
        "cp /sample /tmp/sample && {{ flood /tmp/sample {SECONDS} /known & flood /tmp/sample {SECONDS} /known; wait; }}"
    );
    let output = engine.exec(&container, &["/bin/sh", "-c", &script]);
    assert!(output.status.success(), "{output:?}");
    let ran: u64 = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.parse::<u64>().unwrap())
        .sum();
    let state = watcher.stop();
    let found = state.findings_of(&container.name);
    let of = |category: &str| -> Vec<&FindingResult> {
        found
            .iter()
            .filter(|result| result.finding.category == category)
            .collect()
    };
    let runs = |category: &str| -> u64 {
        of(category)
            .into_iter()
            .map(|result| number(result, store::OCCURRENCES).unwrap())
            .sum()
    };
    let seen = runs("Added Binary Executed");
    let malicious = runs("Execution: Built in Malicious Binary Executed");
    // Losses that can explain it: of starts, which are nobody's, and of bytes in this container.
    let mut losses = state.findings("category=\"Events Dropped\"");
    losses.retain(|result| {
        let lost_in = &result.finding.source_properties["Lost_In"];
        let mut containers = result.finding.containers.iter();
        lost_in == "exec_ring"
            || lost_in == "unhashed" && containers.any(|one| one.name == container.name)
    });
    let lost: u64 = losses
        .iter()
        .map(|result| number(result, "Lost_Events").unwrap())
        .sum();
    // Some are in two counts: what was found by its path alone is counted as not hashed too.
    let counted = seen + malicious + lost;
    assert!(
        seen <= ran && (ran + 2..=ran + 2 + TWICE_MAX).contains(&counted),
        "{ran} ran and two malicious ones, {seen} and {malicious} seen, {lost} lost"
    );
    assert!(seen * 10 > ran, "{seen} of {ran} seen: nearly all are lost");
    // Without losses, none can be among them.
    assert!(malicious == 2 || lost > 0, "{}", described(&found));
}

fn number(result: &FindingResult, property: &str) -> Option<u64> {
    result.finding.source_properties.get(property)?.as_u64()
}
