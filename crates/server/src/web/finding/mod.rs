//! The page of one finding: what an investigator is told to look at, on one page, and the object as the API gives it.

mod evidence;
mod json;
mod links;
mod settings;

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{
    extract::{Path, RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use model::{
    Timestamp,
    finding::{Container, EnvironmentVariable, File, Finding, FindingResult, Resource},
};
use serde_json::Value;
use store::{AuditEntry, Query};

use self::{
    evidence::{JudgedFile, Match},
    json::JsonLine,
    links::Link,
    settings::Setting,
};
use super::{
    Failure, Web, audit, clauses,
    frame::{Frame, Section},
    response,
    session::Session,
    shown::{self, Row, ShownSeverity, When},
    text as filters,
    tree::{self, Tree},
    view::View,
};
use crate::service::findings::listed;

/// Arguments shown before the fold.
const ARGS_SHOWN: usize = 24;

/// Other findings of the container on the timeline: those nearest to the event.
const RELATED_MAX: usize = 50;

/// How far the timeline reaches, to each side.
const RELATED_NS: u64 = 3_600_000_000_000;

/// Changes shown; the audit log has all.
const CHANGES_MAX: usize = 20;

#[derive(Template)]
#[template(path = "finding.html")]
struct Page {
    frame: Frame,
    row: Row,
    active: bool,
    may_edit: bool,
    json: Option<Vec<JsonLine>>,
    json_text: String,
    summary: Summary,
    /// What people did to it, newest first.
    changes: Vec<audit::Entry>,
    changes_more: bool,
}

/// What the summary tab shows.
#[derive(Default)]
struct Summary {
    description: String,
    binary: Option<File>,
    args: Vec<String>,
    args_rest: Vec<String>,
    args_more: usize,
    args_truncated: bool,
    libraries: Vec<File>,
    script: Option<File>,
    uris: Vec<String>,
    connections: Vec<String>,
    containers: Vec<Container>,
    container_id: String,
    pods: Vec<String>,
    facts: Vec<(String, String)>,
    env: Vec<EnvironmentVariable>,
    matches: Vec<Match>,
    next_steps: Vec<String>,
    response: response::Response,
    provenance: Vec<JudgedFile>,
    tree: Tree,
    timeline: Vec<Entry>,
    /// Where those are that the timeline has no room for, and how many.
    timeline_more: Option<(String, u64)>,
    timeline_all: Option<String>,
    log: Vec<String>,
    resource: Resource,
    project: String,
    host: String,
    risks: Vec<String>,
    settings: Vec<Setting>,
    links: Vec<Link>,
    marks: Vec<(String, String)>,
    service: String,
    detector: Option<&'static str>,
    mute_initiator: String,
    external_systems: Vec<(String, String)>,
}

/// A finding on the timeline.
struct Entry {
    href: String,
    category: String,
    what: String,
    severity: ShownSeverity,
    when: When,
    /// Time from this finding, e.g. `2 s before`.
    offset: String,
    is_this: bool,
}

/// `GET /finding/{name}`.
pub(crate) async fn show(
    State(web): State<Arc<Web>>,
    session: Session,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let tab = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(key, _)| key == "tab")
        .map(|(_, tab)| tab.into_owned())
        .unwrap_or_default();
    let frame = web.frame("Finding", Section::Findings, &session).await?;
    web.blocking(session.share(), move |web| {
        let result = web.store().get(&name)?;
        if tab == "raw" {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (
                    header::CONTENT_DISPOSITION,
                    "inline; filename=\"finding.json\"",
                ),
            ];
            let text = json::text(&listed(&result)?);
            return Ok((headers, text).into_response());
        }
        let now = crate::app::now();
        let object = (tab == "json").then(|| listed(&result)).transpose()?;
        let mut changes = web
            .store()
            .audit_log_of(&result.finding.name, CHANGES_MAX as u32 + 1)?;
        add_mute(&mut changes, &result.finding);
        let page = Page {
            frame: Frame {
                title: result.finding.category.clone(),
                ..frame
            },
            row: shown::row(&result, now),
            active: result.finding.state == model::finding::State::Active,
            may_edit: session.may_edit(),
            changes_more: changes.len() > CHANGES_MAX,
            changes: changes
                .into_iter()
                .take(CHANGES_MAX)
                .map(|entry| audit::entry(entry, now))
                .collect(),
            json_text: object.as_ref().map(json::text).unwrap_or_default(),
            summary: match object {
                Some(_) => Summary::default(),
                None => summary(&result, &related(web, &result)?, now),
            },
            json: object.as_ref().map(json::lines),
        };
        super::html(&page)
    })
    .await
}

/// Adds the last change of mute, where it was made by a rule or to many findings at once: it is not in the audit log under
/// the finding's own name.
fn add_mute(changes: &mut Vec<AuditEntry>, finding: &Finding) {
    let Some(time) = finding.mute_update_time else {
        return;
    };
    if finding.mute_initiator.is_empty() || changes.iter().any(|entry| entry.time == time) {
        return;
    }
    let place = changes.partition_point(|entry| entry.time > time);
    let entry = AuditEntry {
        id: 0,
        time,
        who: finding.mute_initiator.clone(),
        action: format!("set mute to {}", shown::mute(finding.mute)),
        target: finding.name.clone(),
        detail: serde_json::Value::Null,
    };
    changes.insert(place, entry);
}

/// Other findings of the same container around a finding.
#[derive(Default)]
struct Related {
    /// The nearest [`RELATED_MAX`] within [`RELATED_NS`].
    results: Vec<FindingResult>,
    /// How many there are within [`RELATED_NS`].
    total: u64,
    /// The filter that selects all of them.
    filter: String,
}

fn related(web: &Web, result: &FindingResult) -> Result<Related, Failure> {
    let Some(clause) = container_clause(&result.finding) else {
        return Ok(Related::default());
    };
    let clauses = clauses::Clauses::parse(&clause);
    let time = result.finding.event_time.unwrap_or_default();
    let from = Timestamp(time.0.saturating_sub(RELATED_NS)).to_string();
    let to = time.plus_ns(RELATED_NS).to_string();
    // One more than is shown: this finding itself is among them.
    let side = |from: &str, to: &str, order: &str| {
        web.store().list(&Query {
            filter: clauses.within("event_time", Some(from), Some(to)),
            order_by: order.to_owned(),
            page_size: RELATED_MAX as u32 + 1,
            ..Query::default()
        })
    };
    let before = side(&from, &time.to_string(), "event_time desc")?;
    let after = side(&time.to_string(), &to, "event_time")?;
    let mut results: Vec<FindingResult> = before
        .results
        .into_iter()
        .chain(after.results)
        .filter(|other| other.finding.name != result.finding.name)
        .collect();
    results.sort_by_key(|other| {
        other
            .finding
            .event_time
            .unwrap_or_default()
            .0
            .abs_diff(time.0)
    });
    results.truncate(RELATED_MAX);
    Ok(Related {
        results,
        total: (before.total_size + after.total_size).saturating_sub(1),
        filter: clauses.within("event_time", Some(&from), Some(&to)),
    })
}

/// The filter that selects the findings of this finding's container.
fn container_clause(finding: &Finding) -> Option<String> {
    if let Some(id) = finding
        .source_properties
        .get("Container_Id")
        .and_then(Value::as_str)
    {
        return Some(clauses::equal_text("source_properties.Container_Id", id));
    }
    let name = &finding.containers.first()?.name;
    (!name.is_empty()).then(|| clauses::equal_text("containers.name", name))
}

fn summary(result: &FindingResult, related: &Related, now: Timestamp) -> Summary {
    let finding = &result.finding;
    let process = finding.processes.first();
    let mut args = process
        .map(|process| process.args.clone())
        .unwrap_or_default();
    let args_rest = args.split_off(args.len().min(ARGS_SHOWN));
    let property = |key: &str| {
        let text = finding.source_properties.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let others: Vec<&Finding> = related.results.iter().map(|other| &other.finding).collect();
    let detector = property("Detector");
    Summary {
        description: finding.description.clone(),
        binary: process.and_then(|process| process.binary.clone()),
        args_more: args_rest.len(),
        args,
        args_rest,
        args_truncated: process.is_some_and(|process| process.arguments_truncated),
        libraries: process
            .map(|process| process.libraries.clone())
            .unwrap_or_default(),
        script: process.and_then(|process| process.script.clone()),
        uris: finding.indicator.uris.clone(),
        connections: finding
            .connections
            .iter()
            .map(evidence::connection)
            .collect(),
        containers: finding.containers.clone(),
        container_id: property("Container_Id"),
        pods: evidence::pods(finding),
        facts: evidence::facts(finding),
        env: process
            .map(|process| process.env_variables.clone())
            .unwrap_or_default(),
        matches: evidence::matches(finding),
        next_steps: next_steps(&finding.next_steps),
        response: response::commands(finding),
        provenance: evidence::provenance(finding),
        tree: tree::draw(finding, &others),
        timeline: timeline(result, &related.results, now),
        timeline_more: (related.total > related.results.len() as u64).then(|| {
            let more = related.total - related.results.len() as u64;
            (View::parse("").with_query(&related.filter), more)
        }),
        timeline_all: container_clause(finding).map(|clause| View::parse("").with_query(&clause)),
        log: evidence::texts(
            evidence::investigation(finding).and_then(|found| found.get("logTail")),
        ),
        resource: result.resource.clone(),
        project: result
            .resource
            .gcp_metadata
            .as_ref()
            .map(|metadata| metadata.project.clone())
            .unwrap_or_default(),
        host: property("VM_Instance_Name"),
        risks: evidence::texts(
            evidence::investigation(finding).and_then(|found| found.get("risks")),
        ),
        settings: settings::of(finding),
        links: links::of(finding),
        marks: finding
            .security_marks
            .iter()
            .flat_map(|marks| marks.marks.clone())
            .collect(),
        service: if finding.parent_display_name.is_empty() {
            finding.parent.clone()
        } else {
            finding.parent_display_name.clone()
        },
        detector: detect::find(&detector).map(|spec| spec.id),
        mute_initiator: finding.mute_initiator.clone(),
        external_systems: finding
            .external_systems
            .iter()
            .map(evidence::external_system)
            .collect(),
    }
}

/// One step each, however they are separated, and each once.
fn next_steps(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    text.lines()
        .map(|line| {
            line.trim()
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .trim_start_matches(['.', '-', '*', ')'])
        })
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && seen.insert(line.clone()))
        .collect()
}

fn timeline(result: &FindingResult, related: &[FindingResult], now: Timestamp) -> Vec<Entry> {
    let this = result.finding.event_time.unwrap_or_default();
    let mut all: Vec<&FindingResult> = related.iter().chain([result]).collect();
    all.sort_by_key(|other| (other.finding.event_time, other.finding.name.clone()));
    all.into_iter()
        .map(|other| {
            let row = shown::row(other, now);
            let is_this = row.name == result.finding.name;
            Entry {
                offset: offset(this, other.finding.event_time.unwrap_or_default(), is_this),
                href: row.href,
                category: row.category,
                what: row.what,
                severity: row.severity,
                when: row.event_time,
                is_this,
            }
        })
        .collect()
}

fn offset(this: Timestamp, other: Timestamp, is_this: bool) -> String {
    if is_this {
        return "now".to_owned();
    }
    let milliseconds = this.0.abs_diff(other.0) / 1_000_000;
    let length = if milliseconds < 10_000 {
        format!("{}.{:01} s", milliseconds / 1000, milliseconds % 1000 / 100)
    } else {
        shown::duration(milliseconds / 1000)
    };
    let side = if other < this { "before" } else { "after" };
    format!("{length} {side}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lose_their_numbers_and_repeats() {
        assert_eq!(
            next_steps("1. Look.\n2. Act.\n\n- Look.\n"),
            ["Look.", "Act."]
        );
    }

    #[test]
    fn offsets_say_before_or_after() {
        let second = |n: u64| Timestamp(n * 1_000_000_000);
        assert_eq!(offset(second(100), second(98), false), "2.0 s before");
        assert_eq!(offset(second(100), second(400), false), "5 min after");
    }
}
