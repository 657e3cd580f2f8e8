//! Runs other programs: container engines, mostly. Each call has a time limit and can be interrupted by a signal.

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Bytes kept of a program's output: enough for any message worth showing.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;

/// SIGINT, SIGTERM and SIGHUP as something that a wait can be interrupted by. While one exists they do not end this process.
pub(crate) struct Interrupt {
    received: UnixStream,
}

/// A wait was interrupted by a signal.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Interrupt {
    /// Begins to catch the signals.
    pub(crate) fn catch() -> Result<Self> {
        let (received, sent) = UnixStream::pair().context("making a socket pair")?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, sent.try_clone()?)
                .context("catching signals")?;
        }
        Ok(Self { received })
    }

    /// Fails with [`Interrupted`] once a signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        if readable(
            &mut [PollFd::new(&self.received, PollFlags::IN)],
            Duration::ZERO,
        )? {
            bail!(Interrupted);
        }
        Ok(())
    }

    /// Waits for that long, or until a signal comes.
    pub(crate) fn wait(&self, duration: Duration) -> Result<()> {
        readable(&mut [PollFd::new(&self.received, PollFlags::IN)], duration)?;
        self.check()
    }
}

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
    interrupt: Option<&Interrupt>,
) -> Result<Output> {
    if let Some(interrupt) = interrupt {
        interrupt.check()?;
    }
    let name = command.get_program().to_string_lossy().into_owned();
    // Files, not pipes: a process of the container may outlive the engine's client and keep a pipe open for ever.
    let mut stdout = tempfile::tempfile().context("making a temporary file")?;
    let mut stderr = tempfile::tempfile().context("making a temporary file")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let waited = wait(&child, limit, interrupt).with_context(|| format!("waiting for {name}"));
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
    interrupt: Option<&Interrupt>,
) -> Result<Output> {
    let output = run(command, limit, interrupt)?;
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

fn wait(child: &Child, limit: Duration, interrupt: Option<&Interrupt>) -> Result<()> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
        if let Some(interrupt) = interrupt {
            watched.push(PollFd::new(&interrupt.received, PollFlags::IN));
        }
        let something = readable(&mut watched, left)?;
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

/// Polls, and goes on after a signal's interruption as if the time were up: callers look again.
fn readable(watched: &mut [PollFd<'_>], timeout: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(timeout).context("a time limit too long for poll")?;
    match poll(watched, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("polling"),
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
