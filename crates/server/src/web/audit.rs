//! The audit log: who changed what, and who signed in. For admins; a finding's own page shows its changes to everybody.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use model::Timestamp;
use serde_json::Value;
use store::AuditEntry;

use super::{
    Failure, Web,
    frame::{Frame, Section},
    html,
    login::Fields,
    session::Session,
    shown::{self, When},
    text as filters,
};
use crate::{app::now, auth::Role};

/// Entries on a page.
const PAGE_SIZE: u32 = 100;

/// An entry as a table shows it.
pub(crate) struct Entry {
    pub(crate) when: When,
    /// Who; empty for somebody that nobody knows.
    pub(crate) who: String,
    pub(crate) action: String,
    pub(crate) target: String,
    /// The target's page, if it has one.
    pub(crate) href: Option<String>,
    pub(crate) detail: String,
}

pub(crate) fn entry(entry: AuditEntry, now: Timestamp) -> Entry {
    Entry {
        when: shown::when(Some(entry.time), now),
        href: entry
            .target
            .contains("/findings/")
            .then(|| shown::finding_href(&entry.target)),
        detail: match entry.detail {
            Value::Null => String::new(),
            Value::String(text) => text,
            detail => detail.to_string(),
        },
        who: entry.who,
        action: entry.action,
        target: entry.target,
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    entries: Vec<Entry>,
    /// The last entry's id, where older ones follow.
    older: Option<i64>,
}

/// `GET /audit`.
pub(crate) async fn show(
    State(web): State<Arc<Web>>,
    session: Session,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    if session.caller.role < Role::Admin {
        return Err(Failure::Forbidden(format!(
            "Your role is {}; the audit log takes the role admin.",
            session.caller.role.name()
        )));
    }
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let before = fields.get("before").parse().unwrap_or(i64::MAX);
    let frame = web.frame("Audit log", Section::Audit, &session).await?;
    web.blocking(session.share(), move |web| {
        let now = now();
        let mut log = web.store().audit_log(before, PAGE_SIZE + 1)?;
        let has_older = log.len() > PAGE_SIZE as usize;
        log.truncate(PAGE_SIZE as usize);
        let last = log.last().map(|entry| entry.id);
        html(&Page {
            frame,
            older: last.filter(|_| has_older),
            entries: log.into_iter().map(|one| entry(one, now)).collect(),
        })
    })
    .await
}
