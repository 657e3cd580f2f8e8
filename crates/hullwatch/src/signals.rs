//! SIGINT and SIGTERM, as something that can be waited for.

use std::{io::Read, os::unix::net::UnixStream, time::Duration};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Registered signals.
pub(crate) struct Signals {
    stream: UnixStream,
}

impl Signals {
    pub(crate) fn register() -> Result<Self> {
        let (stream, write) = UnixStream::pair().context("making a socket pair for signals")?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)
                .context("handling signals")?;
        }
        Ok(Self { stream })
    }

    /// Waits for a signal. True when one came.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(timeout))?;
        match self.stream.read(&mut [0; 1]) {
            Ok(_count) => Ok(true),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock
                | std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::Interrupted => Ok(false),
                _ => Err(error).context("waiting for signals"),
            },
        }
    }
}
