//! What a new start of the watcher says of the run before.

use std::fs;

use model::finding::{FindingResult, State};
use testkit::command::wait_for;

use crate::watcher::{Options, State as StateDir, Watcher, findings};

const LOST: &str =
    "source_properties.Sensor=\"fanotify\" AND source_properties.Sensor_Condition=\"LOST\"";

#[test]
fn a_sensor_that_is_still_lost_after_a_restart_is_told_once_and_so_is_that_it_is_back() {
    let state = StateDir::new();
    let sink = state.path().join("test-sink");
    let config = format!("[sinks.all]\ntype = \"file\"\npath = {sink:?}\nfilter = {LOST:?}\n");
    let told = || {
        fs::read_to_string(&sink)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let lost = |watcher: &Watcher, times: u64| {
        wait_for(&format!("the loss, found {times} times"), || {
            let found = findings(watcher.state_dir(), LOST);
            let is_it = |result: &&FindingResult| {
                result.finding.source_properties["Occurrences"] == times
                    && result.finding.state == State::Active
            };
            found.iter().find(is_it).map(drop)
        });
    };
    let degraded = Options {
        config: &config,
        // fanotify's marks on whole filesystems take it.
        without: Some("sys_admin"),
        ..Options::default()
    };
    let watcher = Watcher::start_on(state, &degraded);
    lost(&watcher, 1);
    wait_for("the first message", || (told() > 0).then_some(()));
    let watcher = Watcher::start_on(watcher.stop(), &degraded);
    lost(&watcher, 2);
    let state = watcher.stop();
    assert_eq!(told(), 1);

    let watcher = Watcher::start_on(
        state,
        &Options {
            without: None,
            ..degraded
        },
    );
    wait_for("the end of the loss", || {
        let found = findings(watcher.state_dir(), LOST);
        (found[0].finding.state == State::Inactive).then_some(())
    });
    wait_for("the second message", || (told() > 1).then_some(()));
    let _state = watcher.stop();
    assert_eq!(told(), 2);
}
