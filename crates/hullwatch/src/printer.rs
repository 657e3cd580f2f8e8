//! Prints new findings on a thread of its own: nobody who reads them, or stops reading, holds up the watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use model::finding::FindingResult;

use crate::{agent::Announce, print};

/// Findings that wait to be printed. What comes while as many wait is stored, but not printed.
const WAITING_MAX: usize = 256;

/// Time that what still waits gets at the end.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// The thread.
pub(crate) struct Printer {
    thread: JoinHandle<()>,
    skipped: Arc<AtomicU64>,
}

/// Starts the thread. The closure never waits; when it is dropped, the thread prints what waits and ends.
///
/// # Errors
/// When there can be no thread.
pub(crate) fn start(
    print: impl Fn(&FindingResult) -> Result<()> + Send + 'static,
) -> Result<(Announce, Printer)> {
    let (sender, findings) = sync_channel(WAITING_MAX);
    let skipped = Arc::new(AtomicU64::new(0));
    let thread = thread::Builder::new()
        .name("printer".to_owned())
        .spawn({
            let skipped = Arc::clone(&skipped);
            move || print_all(&findings, &print, &skipped)
        })
        .context("starting the printer thread")?;
    let announce = {
        let skipped = Arc::clone(&skipped);
        move |result: &FindingResult| {
            if sender.try_send(result.clone()).is_err() {
                skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    Ok((Box::new(announce), Printer { thread, skipped }))
}

fn print_all(
    findings: &Receiver<FindingResult>,
    print: &impl Fn(&FindingResult) -> Result<()>,
    skipped: &AtomicU64,
) {
    let mut has_failed = false;
    for result in findings {
        match print(&result) {
            Ok(()) => has_failed = false,
            Err(error) => {
                skipped.fetch_add(1, Ordering::Relaxed);
                if !has_failed {
                    print::warning(&format!(
                        "findings cannot be printed ({error:#}); they are kept: see `hullwatch findings list`"
                    ));
                }
                has_failed = true;
            }
        }
    }
}

impl Printer {
    /// Waits for the thread, but not for somebody who does not read. Returns how many findings were not printed.
    pub(crate) fn finish(self) -> u64 {
        let deadline = Instant::now() + FINISH_MAX;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(10));
        }
        self.skipped.load(Ordering::Relaxed)
    }
}
