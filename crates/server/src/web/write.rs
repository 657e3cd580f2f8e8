//! Changes made from the pages: state, mute, security marks. The store writes each into the audit log.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use model::{
    Timestamp,
    finding::{Mute, State as FindingState},
};
use store::{Change, FindingId, Store, filter};

use super::{
    Failure, Web,
    login::Form,
    session::{self, Session},
    shown::finding_href,
};
use crate::app::now;

/// Findings named by one form. The largest page of the table is smaller.
const NAMES_MAX: usize = 500;

/// Findings changed by one form because they match its query: each is a change of its own, and the caller waits.
pub(crate) const MATCHING_MAX: usize = 5000;

/// Who may, and with a form of ours.
fn check(session: &Session, form: &Form) -> Result<(), Failure> {
    session.check_csrf(form.get("csrf"))?;
    if session.may_edit() {
        Ok(())
    } else {
        Err(Failure::Forbidden(format!(
            "Your role is {}; changing findings takes the role editor.",
            session.caller.role.name()
        )))
    }
}

/// `POST /findings/actions`: one change to each finding named, or to all that match the query and were there when the page
/// was made.
pub(crate) async fn actions(
    State(web): State<Arc<Web>>,
    session: Session,
    form: Form,
) -> Result<Response, Failure> {
    check(&session, &form)?;
    let names: Vec<String> = form
        .all("name")
        .take(NAMES_MAX + 1)
        .map(str::to_owned)
        .collect();
    if names.len() > NAMES_MAX {
        return Err(Failure::Bad(format!(
            "At most {NAMES_MAX} findings are changed at a time."
        )));
    }
    let action = form.get("action").to_owned();
    let matching = match form.get("matching") {
        "" => None,
        _ => Some(matching(form.get("q"), form.get("as_of"))?),
    };
    let done = web
        .blocking(session.share(), move |web| {
            let change = Change {
                who: &session.caller.name,
                now: now(),
            };
            let store = web.store();
            let mut names = names;
            if let Some(filter) = matching {
                let ids = store.ids("", &filter)?;
                if ids.len() > MATCHING_MAX {
                    return Err(Failure::Bad(format!(
                        "More than {MATCHING_MAX} findings match: narrow the query."
                    )));
                }
                let mute = match action.as_str() {
                    "mute" => Some(Mute::Muted),
                    "unmute" => Some(Mute::Unmuted),
                    _ => None,
                };
                if let Some(mute) = mute {
                    let done = store.bulk_mute("", &filter, mute, change, |_| true)?;
                    return Ok(format!("{action}:{done}"));
                }
                names = self::names(store, &ids)?;
            }
            if names.is_empty() {
                return Ok("none:0".to_owned());
            }
            let mut gone = 0;
            for name in &names {
                let changed = match action.as_str() {
                    "active" => store.set_state(name, FindingState::Active, change),
                    "inactive" => store.set_state(name, FindingState::Inactive, change),
                    "mute" => store.set_mute(name, Mute::Muted, change),
                    "unmute" => store.set_mute(name, Mute::Unmuted, change),
                    _ => return Err(Failure::Bad("There is no such action.".to_owned())),
                };
                match changed {
                    Ok(_) => {}
                    // Removed since the page was shown, by age as a rule. The others are still to be changed.
                    Err(store::Error::NotFound(_)) => gone += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            let done = names.len() - gone;
            Ok(match gone {
                0 => format!("{action}:{done}"),
                gone => format!("{action}:{done}:{gone}"),
            })
        })
        .await?;
    let back = session::local(form.get("back"));
    let joint = if back.contains('?') { '&' } else { '?' };
    Ok(Redirect::to(&format!("{back}{joint}done={done}")).into_response())
}

/// The query, and no findings that were made after the page that shows how many match.
fn matching(q: &str, as_of: &str) -> Result<String, Failure> {
    // Alone, so that it cannot close the parenthesis.
    filter::check(q).map_err(store::Error::from)?;
    let as_of = Timestamp::parse(as_of)
        .ok_or_else(|| Failure::Bad("The form does not say when its page was made.".to_owned()))?;
    let all_then = format!("create_time<=\"{as_of}\"");
    Ok(match q.trim() {
        "" => all_then,
        q => format!("({q}) AND {all_then}"),
    })
}

fn names(store: &Store, mut ids: &[FindingId]) -> Result<Vec<String>, store::Error> {
    let mut names = Vec::with_capacity(ids.len());
    while !ids.is_empty() {
        let (findings, taken) = store.findings(ids)?;
        names.extend(findings.into_iter().map(|result| result.finding.name));
        ids = &ids[taken..];
    }
    Ok(names)
}

/// `POST /findings/marks`: sets or removes one security mark.
pub(crate) async fn marks(
    State(web): State<Arc<Web>>,
    session: Session,
    form: Form,
) -> Result<Response, Failure> {
    check(&session, &form)?;
    let (name, key) = (
        form.get("name").to_owned(),
        form.get("key").trim().to_owned(),
    );
    let mut marks = BTreeMap::new();
    if form.get("remove").is_empty() {
        marks.insert(key.clone(), form.get("value").trim().to_owned());
    }
    let back = finding_href(&name);
    web.blocking(session.share(), move |web| {
        let change = Change {
            who: &session.caller.name,
            now: now(),
        };
        web.store()
            .set_marks(&name, &marks, &[&format!("marks.{key}")], change)?;
        Ok(())
    })
    .await?;
    Ok(Redirect::to(&back).into_response())
}
