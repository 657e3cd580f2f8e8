//! Recording findings from detection: one finding per distinct fact, repeats fold into it.

use std::time::SystemTime;

use model::Timestamp;
use model::finding::{Finding, FindingResult, LOST_EVENTS, Mute, State};
use serde_json::Value;

use crate::index::{Index, Stored};
use crate::name::FindingName;
use crate::{Change, Error, Store, change};

/// Source property with the number of times the fact was seen.
pub const OCCURRENCES: &str = "Occurrences";

/// Source property with the time the fact was seen first, RFC 3339.
pub const FIRST_SEEN: &str = "First_Seen";

/// Source property with the number of values that filters do not see, or only the beginning of: there are too many of them,
/// or they are too long. Not there when there are none.
pub const NOT_INDEXED: &str = "Values_Not_Indexed";

/// Values kept in each list of indicators of one finding, when repeats bring new ones.
const INDICATORS_MAX: usize = 64;

/// What happens within a minute of a user's decision about the state is what the user decided about.
const DECISION_NS: u64 = 60_000_000_000;

/// What became of a recorded finding. Announce [`Outcome::New`], [`Outcome::Reactivated`] and [`Outcome::Changed`], unless muted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Name of the finding.
    pub name: String,
    /// New, a repeat, or a change.
    pub outcome: Outcome,
    /// A mute rule or a user muted it.
    pub muted: bool,
}

/// What a recorded finding was to the store. Counts are of times seen, this one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not seen before.
    New,
    /// The same fact again.
    Repeat {
        /// Times seen.
        count: u64,
    },
    /// It was inactive, and is active again.
    Reactivated {
        /// Times seen.
        count: u64,
    },
    /// Severity changed, or it became inactive.
    Changed {
        /// Times seen.
        count: u64,
    },
}

impl Store {
    /// Stores findings in one transaction: all of them are on disk when it returns, or none. A finding that is there
    /// already is folded (one that is inactive says only that it is over): evidence of the newer event, later `eventTime`, count. What users set (mute, marks,
    /// external systems) stays; a state until it happens again more than a minute later, a severity for as long as that of
    /// the detector does. A finding that stands for several times says so in its source property [`OCCURRENCES`].
    pub fn record(&self, batch: &[FindingResult]) -> Result<Vec<Recorded>, Error> {
        let now = Timestamp::from(SystemTime::now());
        self.database.write(|db| {
            let mut index = Index::new(db, &self.database)?;
            let recorded = batch
                .iter()
                .map(|result| record_one(&mut index, result, now))
                .collect::<Result<Vec<_>, _>>()?;
            index.finish()?;
            Ok(recorded)
        })
    }
}

fn record_one(
    index: &mut Index<'_>,
    seen: &FindingResult,
    now: Timestamp,
) -> Result<Recorded, Error> {
    let name = FindingName::parse(&seen.finding.name)?;
    let times = seen.finding.source_properties.get(OCCURRENCES);
    let mut times = times.and_then(Value::as_i64).unwrap_or(1).max(1);
    let Some(old) = index.load(&name)? else {
        let mut result = seen.clone();
        let finding = &mut result.finding;
        let first = *finding.event_time.get_or_insert(now);
        let properties = &mut finding.source_properties;
        properties.insert(OCCURRENCES.to_owned(), Value::from(1));
        properties.insert(FIRST_SEEN.to_owned(), Value::from(first.to_string()));
        let change = Change {
            who: "hullwatch",
            now,
        };
        let stored = change::insert(index, &name, result, change)?;
        if times > 1 {
            let mut rest = seen.clone();
            let properties = &mut rest.finding.source_properties;
            properties.insert(OCCURRENCES.to_owned(), Value::from(times - 1));
            // All of them are in the finding already.
            properties.remove(LOST_EVENTS);
            record_one(index, &rest, now)?;
        }
        return Ok(Recorded {
            name: name.to_string(),
            outcome: Outcome::New,
            muted: stored.finding.mute == Mute::Muted,
        });
    };
    let is_end = seen.finding.state == State::Inactive;
    if is_end {
        // The end of a fact is not the fact again.
        times = 0;
    }
    let mut new = old.next();
    new.occurrences = new.occurrences.saturating_add(times);
    fold(&mut new, seen, now);
    let count = new.occurrences.unsigned_abs();
    let stored = change::replace(index, &old, new, now)?;
    let (before, after) = (&old.result.finding, &stored.finding);
    let outcome = if before.state != State::Active && after.state == State::Active {
        Outcome::Reactivated { count }
    } else if before.state != after.state || before.severity != after.severity {
        Outcome::Changed { count }
    } else {
        Outcome::Repeat { count }
    };
    Ok(Recorded {
        name: name.to_string(),
        outcome,
        muted: after.mute == Mute::Muted,
    })
}

fn fold(stored: &mut Stored, seen: &FindingResult, now: Timestamp) {
    let finding = &mut stored.result.finding;
    let new = &seen.finding;
    finding
        .source_properties
        .insert(OCCURRENCES.to_owned(), Value::from(stored.occurrences));
    let time = new.event_time.unwrap_or(now);
    // Events can arrive out of order; the evidence shown is that of the latest.
    let lost = [&*finding, new].map(|finding| finding.source_properties.get(LOST_EVENTS)?.as_u64());
    if let [Some(before), Some(now)] = lost {
        let sum = Value::from(before.saturating_add(now));
        finding
            .source_properties
            .insert(LOST_EVENTS.to_owned(), sum);
    }
    if finding.event_time.is_some_and(|latest| latest > time) {
        return;
    }
    finding.event_time = Some(time);
    let is_decided = stored
        .state_by_user
        .is_some_and(|decided| time <= decided.plus_ns(DECISION_NS));
    if !is_decided {
        finding.state = new.state;
        stored.state_by_user = None;
    }
    if new.state == State::Inactive {
        // What is over stays as it was seen.
        return;
    }
    if stored.detected_severity != Some(new.severity) {
        finding.severity = new.severity;
        stored.detected_severity = None;
    }
    merge_evidence(finding, new);
    if !seen.resource.name.is_empty() {
        stored.result.resource = seen.resource.clone();
    }
}

/// Takes what the newer event knows; what it does not know stays.
fn merge_evidence(finding: &mut Finding, new: &Finding) {
    for (key, value) in &new.source_properties {
        if ![OCCURRENCES, FIRST_SEEN, NOT_INDEXED, LOST_EVENTS].contains(&key.as_str()) {
            finding.source_properties.insert(key.clone(), value.clone());
        }
    }
    finding.other.extend(new.other.clone());
    let indicator = &mut finding.indicator;
    join(&mut indicator.ip_addresses, &new.indicator.ip_addresses);
    join(&mut indicator.domains, &new.indicator.domains);
    join(&mut indicator.uris, &new.indicator.uris);
    join(&mut indicator.signatures, &new.indicator.signatures);
    replace(&mut finding.connections, &new.connections);
    replace(&mut finding.processes, &new.processes);
    replace(&mut finding.containers, &new.containers);
    replace(&mut finding.files, &new.files);
    for (text, new) in [
        (&mut finding.external_uri, &new.external_uri),
        (&mut finding.description, &new.description),
        (&mut finding.next_steps, &new.next_steps),
        (&mut finding.module_name, &new.module_name),
        (&mut finding.parent_display_name, &new.parent_display_name),
    ] {
        if !new.is_empty() {
            text.clone_from(new);
        }
    }
    if new.mitre_attack.is_some() {
        finding.mitre_attack.clone_from(&new.mitre_attack);
    }
    if new.kubernetes.is_some() {
        finding.kubernetes.clone_from(&new.kubernetes);
    }
}

fn replace<T: Clone>(list: &mut Vec<T>, new: &[T]) {
    if !new.is_empty() {
        *list = new.to_vec();
    }
}

fn join<T: Clone + PartialEq>(list: &mut Vec<T>, new: &[T]) {
    for item in new {
        if list.len() < INDICATORS_MAX && !list.contains(item) {
            list.push(item.clone());
        }
    }
}
