//! Programs that run as fast as the machine allows: each is in a finding, or counted as lost.

use detect::samples;
use model::finding::FindingResult;
use testkit::{Engine, Image, Run, engines::Runc};

use crate::{
    stimuli,
    watcher::{Options, Watcher, described},
};

const SECONDS: &str = "10";

/// Programs of others that may be lost meanwhile.
const OTHERS_MAX: u64 = 1000;

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
    let losses = state.findings("category=\"Events Dropped\"");
    let lost_in = |place: &str, is_meant: &dyn Fn(&FindingResult) -> bool| -> u64 {
        losses
            .iter()
            .filter(|result| result.finding.source_properties["Lost_In"] == place)
            .filter(|result| is_meant(result))
            .map(|result| number(result, "Lost_Events").unwrap())
            .sum()
    };
    let lost = lost_in("exec_ring", &|_| true);
    let unhashed = lost_in("unhashed", &|result| {
        let mut containers = result.finding.containers.iter();
        containers.any(|one| one.name == container.name)
    });
    // What was found by its path alone is counted as not hashed too.
    let counted = seen + malicious + lost + unhashed;
    assert!(
        seen <= ran && (ran + 2..=ran + 2 + unhashed + OTHERS_MAX).contains(&counted),
        "{ran} ran and two malicious ones, {seen} and {malicious} seen, {lost} lost, {unhashed} not hashed"
    );
    assert!(seen * 10 > ran, "{seen} of {ran} seen: nearly all are lost");
    // Without losses, none can be among them.
    assert!(
        malicious == 2 || lost + unhashed > 0,
        "{}",
        described(&found)
    );
}

fn number(result: &FindingResult, property: &str) -> Option<u64> {
    result.finding.source_properties.get(property)?.as_u64()
}
