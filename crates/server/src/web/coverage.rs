//! Coverage: what is not watched and why, first; then every container, the sensors' errors and the sinks.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use model::Timestamp;
use store::{ContainerState, Query, SinkState, Store};

use super::{
    Failure, Web,
    frame::{Frame, Section, Watch},
    html,
    session::Session,
    shown::{self, Row, When},
    text as filters,
    view::View,
};
use crate::app::now;

/// A watcher that gave no sign of life for this long is taken for gone. It gives one every few seconds.
const SILENCE_NS: u64 = 60_000_000_000;

/// Errors of the watch that are listed.
const ERRORS_MAX: u32 = 20;

/// Findings that say what could not be seen.
const ERRORS: &str = r#"finding_class="SCC_ERROR" AND state="ACTIVE" AND NOT mute="MUTED""#;

#[derive(Template)]
#[template(path = "coverage.html")]
struct Page {
    frame: Frame,
    watcher: Watcher,
    uncovered: Vec<ShownContainer>,
    covered: Vec<ShownContainer>,
    ended: Vec<ShownContainer>,
    errors: Vec<Row>,
    errors_href: String,
    sinks: Vec<ShownSink>,
    blind: bool,
}

/// The agent, as its signs of life tell.
struct Watcher {
    good: bool,
    sentence: String,
    last: When,
}

struct ShownContainer {
    state: ContainerState,
    findings: String,
    since: When,
    last_event: When,
    last_test: When,
    ended: When,
}

struct ShownSink {
    state: SinkState,
    oldest: When,
    good: bool,
}

/// For the head of every page: is everything watched.
pub(crate) fn watch(store: &Store) -> Result<Watch, Failure> {
    let watcher = watcher(store, now())?;
    let (good, text) = if !watcher.good {
        (false, "Not watching".to_owned())
    } else {
        let blind = store
            .containers()?
            .iter()
            .filter(|container| is_uncovered(container))
            .count();
        match blind {
            0 => (true, "Watching".to_owned()),
            1 => (false, "1 container not watched".to_owned()),
            n => (false, format!("{n} containers not watched")),
        }
    };
    Ok(Watch { good, text })
}

fn watcher(store: &Store, now: Timestamp) -> Result<Watcher, Failure> {
    let told = |good, sentence: &str, time| Watcher {
        good,
        sentence: sentence.to_owned(),
        last: shown::when(time, now),
    };
    Ok(match store.last_heartbeat()? {
        None => told(
            false,
            "No watcher has run with this state directory yet: start hullwatch run.",
            None,
        ),
        Some((time, true)) => told(
            false,
            "The watcher was stopped. Nothing is watched since.",
            Some(time),
        ),
        Some((time, false)) if now.0.saturating_sub(time.0) > SILENCE_NS => told(
            false,
            "The watcher gives no sign of life: it was killed, it hangs, or its machine is gone.",
            Some(time),
        ),
        Some((time, false)) => told(true, "The watcher runs.", Some(time)),
    })
}

fn is_uncovered(container: &ContainerState) -> bool {
    container.ended.is_none() && !container.uncovered.is_empty()
}

/// `GET /coverage`.
pub(crate) async fn show(
    State(web): State<Arc<Web>>,
    session: Session,
) -> Result<Response, Failure> {
    let frame = web.frame("Coverage", Section::Coverage, &session).await?;
    web.blocking(move |web| {
        let store = web.store();
        let now = now();
        let (ended, running): (Vec<_>, Vec<_>) = store
            .containers()?
            .into_iter()
            .map(|state| container(state, now))
            .partition(|one| one.state.ended.is_some());
        let (uncovered, covered): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|one| is_uncovered(&one.state));
        let errors = store.list(&Query {
            filter: ERRORS.to_owned(),
            page_size: ERRORS_MAX,
            ..Query::default()
        })?;
        let watcher = watcher(store, now)?;
        html(&Page {
            frame,
            blind: !watcher.good || !uncovered.is_empty() || !errors.results.is_empty(),
            watcher,
            uncovered,
            covered,
            ended,
            errors: errors
                .results
                .iter()
                .map(|result| shown::row(result, now))
                .collect(),
            errors_href: View::parse("").with_query(ERRORS),
            sinks: store
                .sinks()?
                .into_iter()
                .map(|state| sink(state, now))
                .collect(),
        })
    })
    .await
}

fn container(state: ContainerState, now: Timestamp) -> ShownContainer {
    let clause = super::clauses::equal_text("source_properties.Container_Id", &state.id);
    ShownContainer {
        findings: View::parse("").with_query(&clause),
        since: shown::when(Some(state.since), now),
        last_event: shown::when(state.last_event, now),
        last_test: shown::when(state.last_test, now),
        ended: shown::when(state.ended, now),
        state,
    }
}

fn sink(state: SinkState, now: Timestamp) -> ShownSink {
    ShownSink {
        oldest: shown::when(state.oldest, now),
        good: state.error.is_empty() && state.dropped == 0,
        state,
    }
}
