//! Changes that people and the API make to findings: create, update with masks, state, mute, marks, external systems.

use std::collections::BTreeMap;

use model::Timestamp;
use model::finding::{FindingResult, Mute, SecurityMarks, State};
use serde_json::{Map, Value, json};

use crate::fields::camel_case;
use crate::index::{Index, Stored};
use crate::name::FindingName;
use crate::{Error, Store, audit, mute, notify};

/// Who makes a change, and when. Goes into the audit log with it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Name of the token or program.
    pub who: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// Bytes of a finding that a change may leave, with its resource, as JSON. Several times the largest that detection makes.
pub const FINDING_BYTES_MAX: usize = 1024 * 1024;

/// Marks of one finding.
const MARKS_MAX: usize = 256;

/// Fields of a finding that an update leaves alone, because the server or another method sets them.
const NOT_UPDATED: &[&str] = &[
    "name",
    "canonicalName",
    "parent",
    "createTime",
    "securityMarks",
    "externalSystems",
    "muteInfo",
    "muteInitiator",
    "muteUpdateTime",
    "parentDisplayName",
    "contacts",
];

/// Fields that never change once a finding exists.
const IMMUTABLE: &[&str] = &["category", "resourceName"];

impl Store {
    /// Adds a finding. Marks, external systems and what the server sets are ignored.
    pub fn create_finding(
        &self,
        name: &str,
        finding: &FindingResult,
        change: Change<'_>,
    ) -> Result<FindingResult, Error> {
        let parsed = FindingName::parse(name)?;
        self.database.write(|db| {
            let mut index = Index::new(db, &self.database)?;
            if index.load(&parsed)?.is_some() {
                return Err(Error::Exists(name.to_owned()));
            }
            let created = insert(&mut index, &parsed, finding.clone(), change)?;
            check_size(&created)?;
            index.finish()?;
            audit::note(
                db,
                change,
                "create finding",
                &parsed.to_string(),
                &Value::Null,
            )?;
            Ok(created)
        })
    }

    /// Updates the fields named in `mask` (`snake_case` or `camelCase`; `source_properties.KEY` too), or all that may
    /// change when it is empty. The stored resource stays: only detection knows more of it than its name. A finding that
    /// does not exist is created.
    pub fn update_finding(
        &self,
        name: &str,
        finding: &FindingResult,
        mask: &[&str],
        change: Change<'_>,
    ) -> Result<FindingResult, Error> {
        let parsed = FindingName::parse(name)?;
        self.database.write(|db| {
            let mut index = Index::new(db, &self.database)?;
            let updated = match index.load(&parsed)? {
                None if mask.is_empty() => insert(&mut index, &parsed, finding.clone(), change)?,
                None => return Err(Error::NotFound(name.to_owned())),
                Some(old) => {
                    let mut new = old.next();
                    apply_mask(&mut new.result, finding, mask)?;
                    let (before, after) = (&old.result.finding, &new.result.finding);
                    if before.state != after.state {
                        new.state_by_user = Some(change.now);
                    }
                    if before.severity != after.severity {
                        let detected = old.detected_severity.unwrap_or(before.severity);
                        new.detected_severity = Some(detected).filter(|own| *own != after.severity);
                    }
                    let wanted = std::mem::replace(&mut new.result.finding.mute, before.mute);
                    if wanted != before.mute {
                        mute::set(&mut new.result, wanted, change.who, change.now);
                    }
                    replace(&mut index, &old, new, change.now)?
                }
            };
            check_size(&updated)?;
            index.finish()?;
            audit::note(
                db,
                change,
                "update finding",
                &parsed.to_string(),
                &json!(mask),
            )?;
            Ok(updated)
        })
    }

    /// Sets whether a finding is still to be dealt with. What happens more than a minute later changes that back.
    pub fn set_state(
        &self,
        name: &str,
        state: State,
        change: Change<'_>,
    ) -> Result<FindingResult, Error> {
        self.modify(name, change, "set state", &json!(state), |stored| {
            stored.result.finding.state = state;
            stored.state_by_user = Some(change.now);
            Ok(())
        })
    }

    /// Mutes or unmutes by hand. `Undefined` leaves it to the dynamic rules.
    pub fn set_mute(
        &self,
        name: &str,
        mute: Mute,
        change: Change<'_>,
    ) -> Result<FindingResult, Error> {
        self.modify(name, change, "set mute", &json!(mute), |stored| {
            mute::set(&mut stored.result, mute, change.who, change.now);
            Ok(())
        })
    }

    /// Replaces all marks when `mask` is empty or names `marks`; else sets or, where `marks` lacks them, removes the
    /// marks named in it as `marks.KEY`.
    pub fn set_marks(
        &self,
        name: &str,
        marks: &BTreeMap<String, String>,
        mask: &[&str],
        change: Change<'_>,
    ) -> Result<FindingResult, Error> {
        for (key, value) in marks {
            check_mark(key, value)?;
        }
        let keys: Vec<&str> = mask
            .iter()
            .filter_map(|path| path.strip_prefix("marks."))
            .collect();
        let all = mask.is_empty() || mask.contains(&"marks");
        if !all && keys.len() < mask.len() {
            return Err(Error::invalid(
                "update_mask",
                "names something other than marks or marks.KEY",
            ));
        }
        self.modify(
            name,
            change,
            "set marks",
            &json!({"marks": marks, "mask": mask}),
            |stored| {
                let finding = &mut stored.result.finding;
                let own = finding
                    .security_marks
                    .get_or_insert_with(SecurityMarks::default);
                own.name = format!("{}/securityMarks", finding.name);
                if all {
                    own.marks.clear();
                }
                for (key, value) in marks {
                    let lower = key.to_lowercase();
                    if all || keys.iter().any(|named| named.to_lowercase() == lower) {
                        // Keys do not know case: the one written last names it.
                        own.marks.retain(|known, _| known.to_lowercase() != lower);
                        own.marks.insert(key.clone(), value.trim().to_owned());
                    }
                }
                for key in &keys {
                    let lower = key.to_lowercase();
                    if !marks.keys().any(|given| given.to_lowercase() == lower) {
                        own.marks.retain(|known, _| known.to_lowercase() != lower);
                    }
                }
                if own.marks.len() > MARKS_MAX {
                    return Err(Error::invalid("marks", format!("more than {MARKS_MAX}")));
                }
                check_size(&stored.result)
            },
        )
    }

    /// Sets the entry of a ticket system or the like (`ExternalSystem` as JSON), whole or the fields in `mask`.
    pub fn set_external_system(
        &self,
        name: &str,
        system: &str,
        entry: &Map<String, Value>,
        mask: &[&str],
        change: Change<'_>,
    ) -> Result<FindingResult, Error> {
        let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if system.is_empty() || system.len() > 128 || !system.bytes().all(ok) {
            return Err(Error::invalid(
                "external_system",
                format!("{system:?} is not a name"),
            ));
        }
        self.modify(
            name,
            change,
            "set external system",
            &json!(entry),
            |stored| {
                let finding = &mut stored.result.finding;
                let own_name = format!("{}/externalSystems/{system}", finding.name);
                let old = finding.external_systems.remove(system).unwrap_or_default();
                let mut new = if mask.is_empty() {
                    Value::Object(entry.clone())
                } else {
                    old
                };
                for path in mask {
                    copy_path(&mut new, &Value::Object(entry.clone()), &json_path(path));
                }
                if let Value::Object(map) = &mut new {
                    map.insert("name".to_owned(), own_name.into());
                    map.insert(
                        "externalSystemUpdateTime".to_owned(),
                        change.now.to_string().into(),
                    );
                }
                finding.external_systems.insert(system.to_owned(), new);
                check_size(&stored.result)
            },
        )
    }

    fn modify(
        &self,
        name: &str,
        change: Change<'_>,
        action: &str,
        detail: &Value,
        body: impl FnOnce(&mut Stored) -> Result<(), Error>,
    ) -> Result<FindingResult, Error> {
        let parsed = FindingName::parse(name)?;
        self.database.write(|db| {
            let mut index = Index::new(db, &self.database)?;
            let old = index
                .load(&parsed)?
                .ok_or_else(|| Error::NotFound(name.to_owned()))?;
            let mut new = old.next();
            body(&mut new)?;
            let result = replace(&mut index, &old, new, change.now)?;
            index.finish()?;
            audit::note(db, change, action, &parsed.to_string(), detail)?;
            Ok(result)
        })
    }
}

/// Adds a finding, mutes it where a rule or whoever makes it says so, and queues its notifications.
pub(crate) fn insert(
    index: &mut Index<'_>,
    name: &FindingName,
    mut result: FindingResult,
    change: Change<'_>,
) -> Result<FindingResult, Error> {
    let now = change.now;
    let finding = &mut result.finding;
    finding.name = name.to_string();
    finding.parent = name.parent.to_string();
    finding.create_time = Some(now);
    finding.event_time.get_or_insert(now);
    finding.security_marks = None;
    finding.external_systems.clear();
    finding.mute_info = None;
    finding.mute_update_time = None;
    finding.mute_initiator.clear();
    let mute = std::mem::replace(&mut finding.mute, Mute::Undefined);
    if finding.state == State::StateUnspecified {
        finding.state = State::Active;
    }
    if finding.resource_name.is_empty() {
        finding.resource_name.clone_from(&result.resource.name);
    }
    if result.resource.name.is_empty() {
        result.resource.name.clone_from(&finding.resource_name);
    }
    if matches!(mute, Mute::Muted | Mute::Unmuted) {
        mute::set(&mut result, mute, change.who, now);
    }
    let id = index.insert(&name.key, &mut result)?;
    let mut stored = Stored {
        id,
        result,
        occurrences: 1,
        state_by_user: None,
        detected_severity: None,
    };
    if mute::apply_rules(index, id, &mut stored.result, true, now)? {
        index.update(&mut stored)?;
    }
    notify::queue(index, id, &stored.result, now)?;
    Ok(stored.result)
}

/// Puts the next version of a finding in place, applies dynamic mute rules to it, and queues notifications where state
/// or severity changed.
pub(crate) fn replace(
    index: &mut Index<'_>,
    old: &Stored,
    mut new: Stored,
    now: Timestamp,
) -> Result<FindingResult, Error> {
    index.update(&mut new)?;
    if mute::apply_rules(index, old.id, &mut new.result, false, now)? {
        index.update(&mut new)?;
    }
    let (before, after) = (&old.result.finding, &new.result.finding);
    if before.state != after.state || before.severity != after.severity {
        notify::queue(index, old.id, &new.result, now)?;
    }
    Ok(new.result)
}

fn apply_mask(
    stored: &mut FindingResult,
    given: &FindingResult,
    mask: &[&str],
) -> Result<(), Error> {
    let mut target = serde_json::to_value(&stored.finding)?;
    let source = serde_json::to_value(&given.finding)?;
    let mut paths: Vec<Vec<String>> = Vec::new();
    if mask.is_empty() {
        let keys = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .map(|map| map.keys().cloned().collect())
                .unwrap_or_default()
        };
        for key in keys(&target).into_iter().chain(keys(&source)) {
            let fixed = NOT_UPDATED.contains(&key.as_str()) || IMMUTABLE.contains(&key.as_str());
            // What a sender that does not know the field leaves at its default is not a wish to reset it.
            let unset =
                matches!(key.as_str(), "mute" | "state" | "eventTime") && is_default(given, &key);
            if !fixed && !unset {
                paths.push(vec![key]);
            }
        }
    }
    for path in mask {
        let path = json_path(path);
        let root = path.first().map(String::as_str).unwrap_or_default();
        if NOT_UPDATED.contains(&root) {
            continue;
        }
        if IMMUTABLE.contains(&root) && target.get(root) != source.get(root) {
            return Err(Error::invalid(
                "update_mask",
                format!("{root} does not change once a finding exists"),
            ));
        }
        if crate::fields::find_repeated(root).is_none() && !is_known(root) {
            return Err(Error::invalid(
                "update_mask",
                format!("a finding has no field {root:?}"),
            ));
        }
        paths.push(path);
    }
    for path in &paths {
        copy_path(&mut target, &source, path);
    }
    stored.finding = serde_json::from_value(target)
        .map_err(|error| Error::invalid("finding", error.to_string()))?;
    Ok(())
}

fn is_default(given: &FindingResult, key: &str) -> bool {
    match key {
        "mute" => matches!(given.finding.mute, Mute::MuteUnspecified | Mute::Undefined),
        "state" => given.finding.state == State::StateUnspecified,
        _ => given.finding.event_time.is_none(),
    }
}

/// Is it a field of a finding, as JSON names it.
fn is_known(root: &str) -> bool {
    let known = |path: &str| camel_case(path.split('.').next().unwrap_or_default()) == root;
    crate::fields::FIELDS.iter().any(|field| known(field.path))
        || crate::fields::OPEN_ROOTS.iter().any(|field| known(field))
}

/// `source_properties.Some_Key` as keys of the JSON; the keys of maps stay as they are.
fn json_path(path: &str) -> Vec<String> {
    let (root, rest) = path.split_once('.').unwrap_or((path, ""));
    let root = camel_case(root);
    let mut keys = vec![root.clone()];
    if rest.is_empty() {
        return keys;
    }
    if matches!(root.as_str(), "sourceProperties" | "externalSystems") {
        keys.push(rest.to_owned());
    } else {
        keys.extend(rest.split('.').map(camel_case));
    }
    keys
}

/// Makes `target` at `path` what `source` has there; removes it where `source` has nothing.
pub fn copy_path(target: &mut Value, source: &Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return;
    };
    match (source.get(key), rest.is_empty()) {
        (Some(value), true) => {
            map.insert(key.clone(), value.clone());
        }
        (None, true) => {
            map.remove(key);
        }
        (value, false) => {
            let inner = map.entry(key.clone()).or_insert(Value::Object(Map::new()));
            copy_path(inner, value.unwrap_or(&Value::Null), rest);
        }
    }
}

fn check_size(result: &FindingResult) -> Result<(), Error> {
    match serde_json::to_string(result)?.len() {
        bytes if bytes > FINDING_BYTES_MAX => Err(Error::invalid(
            "finding",
            format!("it would have {bytes} bytes as JSON; at most {FINDING_BYTES_MAX} are kept"),
        )),
        _ => Ok(()),
    }
}

/// SCC: keys of 1 to 256 letters, digits, `_` or `-`; values of 1 to 4,096 characters without space around.
fn check_mark(key: &str, value: &str) -> Result<(), Error> {
    let ok = |character: char| character.is_alphanumeric() || "_-".contains(character);
    if key.is_empty() || key.chars().count() > 256 || !key.chars().all(ok) {
        return Err(Error::invalid(
            "marks",
            format!("{key:?} is not a key of letters, digits, _ and -"),
        ));
    }
    let length = value.trim().chars().count();
    if length == 0 || length > 4096 {
        return Err(Error::invalid(
            "marks",
            format!("the value of {key:?} must have 1 to 4096 characters"),
        ));
    }
    Ok(())
}
