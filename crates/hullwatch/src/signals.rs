//! Signals that ask the program to stop, as something that can be waited for.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
pub(crate) use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Registered signals. From then on they do not end this process. Readable, as a descriptor, once one has come.
pub(crate) struct Signals {
    received: UnixStream,
}

/// A signal has come.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Signals {
    pub(crate) fn register(signals: &[i32]) -> Result<Self> {
        let (received, sent) = UnixStream::pair().context("making a socket pair for signals")?;
        for signal in signals {
            signal_hook::low_level::pipe::register(*signal, sent.try_clone()?)
                .context("handling signals")?;
        }
        Ok(Self { received })
    }

    /// Waits for that long, or until a signal has come. True when one has.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<bool> {
        readable(&mut [PollFd::new(&self.received, PollFlags::IN)], timeout)
    }

    /// Waits for that long. Fails with [`Interrupted`] once a signal has come.
    pub(crate) fn pause(&self, duration: Duration) -> Result<()> {
        if self.wait(duration)? {
            bail!(Interrupted);
        }
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.received.as_fd()
    }
}

/// Polls, and goes on after a signal's interruption as if the time were up: callers look again.
pub(crate) fn readable(watched: &mut [PollFd<'_>], timeout: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(timeout).context("a time limit too long for poll")?;
    match poll(watched, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("polling"),
    }
}
