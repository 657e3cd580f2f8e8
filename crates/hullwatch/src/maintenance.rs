//! What has to be done now and then and may take long: on a thread of its own, so that it holds up nothing. A failure is said
//! and tried again later.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use model::Timestamp;
use store::Store;

use crate::{indicators::Reloader, print};

/// Findings past their retention are removed this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Indicators that another process has imported are looked for this often.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Ends the thread when dropped. It is not waited for: what it does can be broken off anywhere.
pub(crate) struct Maintenance {
    _alive: SyncSender<()>,
}

/// Starts the thread.
///
/// # Errors
/// When there can be no thread.
pub(crate) fn start(
    store: Arc<Store>,
    mut indicators: Reloader,
    retention: Duration,
) -> Result<Maintenance> {
    let (alive, end) = sync_channel(0);
    thread::Builder::new()
        .name("maintenance".to_owned())
        .spawn(move || {
            let mut pruned: Option<Instant> = None;
            loop {
                indicators.reload_if_changed();
                if pruned.is_none_or(|pruned| pruned.elapsed() > PRUNE_INTERVAL) {
                    pruned = Some(Instant::now());
                    prune(&store, retention);
                }
                if end.recv_timeout(RELOAD_INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        })
        .context("starting the maintenance thread")?;
    Ok(Maintenance { _alive: alive })
}

fn prune(store: &Store, retention: Duration) {
    let Some(before) = SystemTime::now().checked_sub(retention) else {
        return;
    };
    if let Err(error) = store.prune(Timestamp::from(before)) {
        print::warning(&format!(
            "old findings could not be removed: {:#}",
            anyhow::Error::from(error)
        ));
    }
}
