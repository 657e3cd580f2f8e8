//! Coverage: what is not watched and why, first; then every container, sensor and sink.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{Failure, Web, frame::Watch, now, session::Session, shown};

/// A watcher that gave no sign of life for this long is taken for gone. It gives one every few seconds.
const SILENCE_NS: u64 = 60_000_000_000;

/// For the head of every page: is everything watched.
pub(crate) fn watch(store: &store::Store) -> Result<Watch, Failure> {
    let bad = |text: String| Watch { good: false, text };
    let now = now();
    Ok(match store.last_heartbeat()? {
        None => bad("Nothing is watched yet".to_owned()),
        Some((_, true)) => bad("The watcher is stopped".to_owned()),
        Some((time, false)) if now.0.saturating_sub(time.0) > SILENCE_NS => {
            bad(format!("No sign of the watcher since {}", shown::duration((now.0 - time.0) / 1_000_000_000)))
        }
        Some(_) => Watch {
            good: true,
            text: "Watching".to_owned(),
        },
    })
}

/// `GET /coverage`.
pub(crate) async fn show(State(_web): State<Arc<Web>>, _session: Session) -> Result<Response, Failure> {
    Err(Failure::NotFound("Not there yet.".to_owned()))
}
