//! Coverage: what is not watched and why, first; then every container, the sensors' errors and the sinks.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use model::Timestamp;
use store::{ContainerState, NotificationConfig, Query, SinkState, Store, UNCONFIGURED_DAYS_MAX};

use super::{
    Failure, Web,
    frame::{Frame, Section, Watch},
    html,
    login::Fields,
    session::Session,
    shown::{self, Row, When},
    text as filters,
    view::View,
};
use crate::{app::now, notify};

/// A watcher that gave no sign of life for this long is taken for gone. It gives one every few seconds.
const SILENCE_NS: u64 = 60_000_000_000;

/// A message that has waited for this long should have been sent or have failed. Sinks are given a message within seconds.
const LATE_NS: u64 = 600_000_000_000;

/// Errors of the watch that are listed.
const ERRORS_MAX: u32 = 20;

/// Ended containers on a page.
const ENDED_MAX: u32 = 100;

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
    ended_total: u64,
    /// Number of the first that is shown, from 1.
    ended_first: u32,
    /// Where others are.
    ended_newer: Option<String>,
    ended_older: Option<String>,
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
    /// What is wrong with it, in plain words; empty when it delivers.
    problems: Vec<String>,
}

/// For the head of every page: is everything watched.
pub(crate) fn watch(store: &Store) -> Result<Watch, Failure> {
    let watcher = watcher(store, now())?;
    let (blind, _) = store.count_containers()?;
    let (good, text) = if !watcher.good {
        (false, "Not watching".to_owned())
    } else if blind > 0 {
        (false, counted(blind, "container", "not watched"))
    } else {
        // Low is a watcher that was stopped in order: it is listed on Coverage, but no page need warn of an update.
        let errors = store.list(&Query {
            filter: format!(r#"{ERRORS} AND NOT severity="LOW""#),
            page_size: 1,
            ..Query::default()
        })?;
        match errors.total_size {
            0 => (true, "Watching".to_owned()),
            errors => (false, counted(errors, "error", "of the watch")),
        }
    };
    Ok(Watch { good, text })
}

fn counted(count: u64, what: &str, rest: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural} {rest}")
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

/// `GET /coverage`.
pub(crate) async fn show(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let skip = Fields::parse(query.unwrap_or_default().as_bytes())
        .get("ended")
        .parse()
        .unwrap_or(0);
    let frame = web.frame("Coverage", Section::Coverage, &session).await?;
    web.blocking(session.share(), move |web| {
        let store = web.store();
        let now = now();
        let (_, ended_total) = store.count_containers()?;
        let ended = store.ended_containers(skip, ENDED_MAX)?;
        let (uncovered, covered): (Vec<_>, Vec<_>) = store
            .running_containers()?
            .into_iter()
            .map(|state| container(state, now))
            .partition(|one| !one.state.uncovered.is_empty());
        let ended_href = |skip: u32| format!("/coverage?ended={skip}#ended");
        let next = skip.saturating_add(ENDED_MAX);
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
            ended_total,
            ended_first: skip.saturating_add(1),
            ended_newer: (skip > 0).then(|| ended_href(skip.saturating_sub(ENDED_MAX))),
            ended_older: (u64::from(next) < ended_total).then(|| ended_href(next)),
            ended: ended
                .into_iter()
                .map(|state| container(state, now))
                .collect(),
            errors: errors
                .results
                .iter()
                .map(|result| shown::row(result, now))
                .collect(),
            errors_href: View::parse("").with_query(ERRORS),
            sinks: sinks(store, now)?,
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

fn sinks(store: &Store, now: Timestamp) -> Result<Vec<ShownSink>, Failure> {
    let states = store.sinks()?;
    let is_sending = store.is_notifier_running()?;
    let configured: BTreeMap<String, Option<Timestamp>> = states
        .iter()
        .map(|state| (state.name.clone(), state.unconfigured))
        .collect();
    let shown = states.into_iter().map(|state| {
        let target = if notify::is_notification_config(&state.name) {
            let topic = match store.resource::<NotificationConfig>(&state.name) {
                Ok(config) => config.pubsub_topic,
                // Deleted just now.
                Err(_) => String::new(),
            };
            match notify::sink_of_topic(&topic) {
                Some(sink) if configured.contains_key(sink) => Ok(sink.to_owned()),
                Some(sink) => Err(format!(
                    "its topic goes nowhere: no sink is called {sink:?}"
                )),
                None => Err("its topic names no sink: it must end in /topics/NAME".to_owned()),
            }
        } else {
            Ok(state.name.clone())
        };
        let mut problems = Vec::new();
        match target {
            Err(why) => problems.push(why),
            Ok(sink) => {
                if let Some(since) = configured.get(&sink).copied().flatten() {
                    problems.push(format!(
                        "the configuration has no sink {sink:?} since {} UTC: unless it comes back, it and what waits \
                         for it are removed {UNCONFIGURED_DAYS_MAX} days later",
                        shown::when(Some(since), now).text,
                    ));
                } else if !is_sending {
                    problems.push("no Hullwatch that runs here sends notifications".to_owned());
                }
            }
        }
        if !state.error.is_empty() {
            problems.push(state.error.clone());
        } else if state.oldest.is_some_and(|oldest| now.0.saturating_sub(oldest.0) > LATE_NS) {
            problems.push("messages wait for long".to_owned());
        }
        if state.refused > 0 {
            problems.push(format!("the receiver refused some: {}", state.refusal));
        }
        if state.dropped > 0 {
            problems.push("some were given up because too many waited".to_owned());
        }
        Ok(ShownSink {
            oldest: shown::when(state.oldest, now),
            problems,
            state,
        })
    });
    shown.collect()
}
