//! Runs other programs: container engines, mostly. Each call has a time limit and can be interrupted by a signal.

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::signals::{Interrupted, Signals, readable};

/// Bytes kept of a program's output: enough for any message worth showing.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;

/// Time between two looks at whether a held program may go on.
const HOLD_CHECK: Duration = Duration::from_millis(20);

/// What a program left behind.
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

/// Runs a program to its end and returns its output, whether it succeeded or not.
///
/// It gets a process group of its own, so that a Ctrl-C reaches this process alone, which then ends it in order.
/// Without `interrupt` (when cleaning up) signals do not stop it.
pub(crate) fn run(
    command: &mut Command,
    limit: Duration,
    interrupt: Option<&Signals>,
) -> Result<Output> {
    run_holding(command, limit, interrupt, None)
}

/// Keeps a program's standard input open, without writing to it.
pub(crate) struct Hold<'a> {
    /// Closes it when this says so; asked again and again.
    pub(crate) is_enough: &'a mut dyn FnMut() -> bool,
    /// Closes it after this time at the latest.
    pub(crate) limit: Duration,
}

/// The same, with a standard input that is held open for a while; otherwise it is empty.
pub(crate) fn run_holding(
    command: &mut Command,
    limit: Duration,
    interrupt: Option<&Signals>,
    hold: Option<Hold<'_>>,
) -> Result<Output> {
    if let Some(interrupt) = interrupt {
        interrupt.pause(Duration::ZERO)?;
    }
    let name = command.get_program().to_string_lossy().into_owned();
    // Files, not pipes: a process of the container may outlive the engine's client and keep a pipe open for ever.
    let mut stdout = tempfile::tempfile().context("making a temporary file")?;
    let mut stderr = tempfile::tempfile().context("making a temporary file")?;
    let mut child = command
        .stdin(hold.as_ref().map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let waited =
        wait(&mut child, limit, interrupt, hold).with_context(|| format!("waiting for {name}"));
    if waited.is_err() {
        let _ = child.kill();
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for {name}"))?;
    waited?;
    Ok(Output {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    })
}

/// The same, but a program that fails is an error that says what it printed.
pub(crate) fn succeed(
    command: &mut Command,
    limit: Duration,
    interrupt: Option<&Signals>,
) -> Result<Output> {
    succeed_holding(command, limit, interrupt, None)
}

/// The same, with a standard input that is held open for a while.
pub(crate) fn succeed_holding(
    command: &mut Command,
    limit: Duration,
    interrupt: Option<&Signals>,
    hold: Option<Hold<'_>>,
) -> Result<Output> {
    let output = run_holding(command, limit, interrupt, hold)?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            spelled(command),
            output.status,
            last_lines(&output.stderr, &output.stdout)
        );
    }
    Ok(output)
}

/// Finds a program in `PATH` and in the directories that root's programs live in.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            [
                "/usr/local/bin",
                "/usr/bin",
                "/bin",
                "/usr/local/sbin",
                "/usr/sbin",
                "/sbin",
            ]
            .map(Into::into),
        )
        .map(|directory| directory.join(name))
        .find(|candidate| {
            rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
                && candidate.is_file()
        })
}

fn wait(
    child: &mut Child,
    limit: Duration,
    interrupt: Option<&Signals>,
    mut hold: Option<Hold<'_>>,
) -> Result<()> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let begun = Instant::now();
    loop {
        if let Some(held) = &mut hold
            && (begun.elapsed() >= held.limit || (held.is_enough)())
        {
            drop(child.stdin.take());
            hold = None;
        }
        let left = limit.saturating_sub(begun.elapsed());
        let timeout = hold.as_ref().map_or(left, |_| HOLD_CHECK.min(left));
        let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
        if let Some(interrupt) = interrupt {
            watched.push(PollFd::new(interrupt, PollFlags::IN));
        }
        let something = readable(&mut watched, timeout)?;
        if watched.first().is_some_and(|fd| !fd.revents().is_empty()) {
            return Ok(());
        }
        if something {
            bail!(Interrupted);
        }
        if left.is_zero() {
            bail!("it did not end within {} s", limit.as_secs());
        }
    }
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn spelled(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args().take(3))
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

/// The end of what was said, where the reason is.
fn last_lines(stderr: &str, stdout: &str) -> String {
    const LINES: usize = 3;
    let said = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    let lines: Vec<_> = said.trim().lines().rev().take(LINES).collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
