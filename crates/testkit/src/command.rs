//! Runs programs and waits for conditions.

use std::{
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for a condition: far more than any needs, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `command` and returns its standard output, without the last line feed.
///
/// # Panics
/// When it cannot run or fails.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Runs `command` without input and returns what came of it.
///
/// # Panics
/// When it cannot run.
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Asks `condition` again and again until it gives a value.
///
/// # Panics
/// After [`DEADLINE`], with `what`.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
