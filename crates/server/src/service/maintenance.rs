//! What has to be done behind the calls: dynamic mute rules follow their findings, and end in time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use store::Store;

use crate::app::now;

/// How often rules that end by the clock are looked at.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long a call waits for its rule to take effect. With few findings it has then, with many it will.
const PATIENCE: Duration = Duration::from_secs(2);

/// Callers that wait at a time; more go on without waiting.
const WAITING_MAX: usize = 16;

/// A thread that keeps mute states right. Ends when this is dropped.
pub(super) struct Maintenance {
    wake: SyncSender<SyncSender<()>>,
}

impl Maintenance {
    pub(super) fn start(store: Arc<Store>) -> io::Result<Self> {
        let (wake, woken) = sync_channel::<SyncSender<()>>(WAITING_MAX);
        let thread = std::thread::Builder::new().name("mute-rules".to_owned());
        thread.spawn(move || {
            loop {
                let mut waiting = Vec::new();
                match woken.recv_timeout(INTERVAL) {
                    Ok(waiter) => waiting.push(waiter),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                waiting.extend(woken.try_iter());
                if let Err(error) = store.refresh_mutes(now()) {
                    tracing::error!(%error, "cannot apply mute rules: {error}");
                }
                for waiter in waiting {
                    // The caller may have stopped waiting.
                    let _ = waiter.try_send(());
                }
            }
        })?;
        Ok(Self { wake })
    }

    /// Has the rules applied anew, and waits a little for it.
    pub(super) fn refresh(&self) {
        let (done, wait) = sync_channel(1);
        if self.wake.try_send(done).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}
