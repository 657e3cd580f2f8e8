//! Findings: list, group, create, update, state, mute, marks, tickets.

use model::finding::{Finding, FindingResult, Mute, Resource, SecurityMarks, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::name::{FindingName, SourceName};
use store::{GroupQuery, Query};

use super::{FieldMask, Service, mask, page_size, request, sources};
use crate::answer;
use crate::app::now;
use crate::auth::Caller;
use crate::schema::{self, SCC};
use crate::status::Status;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListFindings {
    parent: String,
    filter: String,
    order_by: String,
    field_mask: FieldMask,
    page_token: String,
    page_size: i32,
}

/// `ListFindings`.
pub(crate) fn list(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let list: ListFindings = request(json)?;
    let scope = SourceName::parse(&list.parent)?.scope;
    let finding = schema::message(&format!("{SCC}.Finding"));
    let paths = list
        .field_mask
        .paths
        .iter()
        .map(|path| mask::resolve(&finding, "field_mask", path))
        .collect::<Result<Vec<_>, _>>()?;
    let page = service.store.list_json(&Query {
        parent: list.parent,
        filter: list.filter,
        order_by: list.order_by,
        page_size: page_size(list.page_size)?,
        page_token: list.page_token,
    })?;
    let results = page
        .results
        .into_iter()
        .map(|mut result| {
            let finding = seen_from(&scope, canonical(result["finding"].take()));
            result["finding"] = mask::project(finding, &paths);
            result
        })
        .collect::<Vec<_>>();
    Ok(json!({
        "listFindingsResults": results,
        "nextPageToken": page.next_page_token,
        "totalSize": total_size(page.total_size),
    }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupFindings {
    parent: String,
    filter: String,
    group_by: String,
    page_token: String,
    page_size: i32,
}

/// `GroupFindings`.
pub(crate) fn group(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let group: GroupFindings = request(json)?;
    SourceName::parse(&group.parent)?;
    let groups = service.store.group(&GroupQuery {
        parent: group.parent,
        filter: group.filter,
        group_by: group.group_by,
        page_size: page_size(group.page_size)?,
        page_token: group.page_token,
    })?;
    let results: Vec<Value> = groups
        .results
        .into_iter()
        .map(|group| {
            let properties: serde_json::Map<_, _> = group
                .properties
                .into_iter()
                .map(|(field, value)| (field, Value::from(value)))
                .collect();
            json!({"properties": properties, "count": group.count.to_string()})
        })
        .collect();
    Ok(json!({
        "groupByResults": results,
        "nextPageToken": groups.next_page_token,
        "totalSize": total_size(groups.total_size),
    }))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CreateFinding {
    parent: String,
    finding_id: String,
    finding: Finding,
}

/// `CreateFinding`.
pub(crate) fn create(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let create: CreateFinding = request(json)?;
    let parent = SourceName::parse(&create.parent)?;
    if create.finding_id.is_empty() {
        return Err(Status::field("finding_id", "finding_id: must be given."));
    }
    check(&create.finding)?;
    sources::must_exist(service, &parent)?;
    let name = format!("{parent}/findings/{}", create.finding_id);
    let created = service
        .store
        .create_finding(&name, &as_sent(create.finding), caller.change())?;
    shown(&created.finding, &parent.scope)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateFinding {
    finding: Finding,
    update_mask: FieldMask,
}

/// `UpdateFinding`: changes what the mask names, or everything that may change; creates what is not there.
pub(crate) fn update(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let update: UpdateFinding = request(json)?;
    let name = Name::resolve(service, &update.finding.name)?;
    check(&update.finding)?;
    let message = schema::message(&format!("{SCC}.Finding"));
    let mask = update.update_mask.checked(&message)?;
    if mask.is_empty() && !name.exists {
        // SCC: only an organization's source takes new findings.
        if !name.scope.starts_with("organizations/") {
            return Err(Status::not_found(&update.finding.name));
        }
        sources::must_exist(service, &FindingName::parse(&name.stored)?.parent)?;
    }
    let updated = service.store.update_finding(
        &name.stored,
        &as_sent(update.finding),
        &mask,
        caller.change(),
    )?;
    shown(&updated.finding, &name.scope)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetFindingState {
    name: String,
    state: State,
}

/// `SetFindingState`.
pub(crate) fn set_state(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let set: SetFindingState = request(json)?;
    if set.state == State::StateUnspecified {
        return Err(Status::field("state", "state: must be ACTIVE or INACTIVE."));
    }
    let name = Name::resolve(service, &set.name)?;
    let finding = service
        .store
        .set_state(&name.stored, set.state, caller.change())?
        .finding;
    shown(&finding, &name.scope)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetMute {
    name: String,
    mute: Mute,
}

impl Default for SetMute {
    fn default() -> Self {
        Self {
            name: String::new(),
            mute: Mute::MuteUnspecified,
        }
    }
}

/// `SetMute`.
pub(crate) fn set_mute(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let set: SetMute = request(json)?;
    if set.mute == Mute::MuteUnspecified {
        return Err(Status::field(
            "mute",
            "mute: must be MUTED, UNMUTED or UNDEFINED.",
        ));
    }
    let name = Name::resolve(service, &set.name)?;
    let finding = service
        .store
        .set_mute(&name.stored, set.mute, caller.change())?
        .finding;
    shown(&finding, &name.scope)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateSecurityMarks {
    security_marks: SecurityMarks,
    update_mask: FieldMask,
}

/// `UpdateSecurityMarks`.
pub(crate) fn update_security_marks(
    service: &Service,
    caller: &Caller,
    json: Value,
) -> Result<Value, Status> {
    let update: UpdateSecurityMarks = request(json)?;
    let marks = update.security_marks;
    let finding = marks
        .name
        .strip_suffix("/securityMarks")
        .ok_or_else(|| Status::field("security_marks.name", "name: must end in /securityMarks."))?;
    let message = schema::message(&format!("{SCC}.SecurityMarks"));
    let mask = update.update_mask.checked(&message)?;
    let name = Name::resolve(service, finding)?;
    let finding = service
        .store
        .set_marks(&name.stored, &marks.marks, &mask, caller.change())?
        .finding;
    let mut finding = shown(&finding, &name.scope)?;
    Ok(finding["securityMarks"].take())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateExternalSystem {
    external_system: Map<String, Value>,
    update_mask: FieldMask,
}

/// `UpdateExternalSystem`.
pub(crate) fn update_external_system(
    service: &Service,
    caller: &Caller,
    json: Value,
) -> Result<Value, Status> {
    let update: UpdateExternalSystem = request(json)?;
    let full = update.external_system.get("name").and_then(Value::as_str);
    let (finding, system) = full
        .and_then(|name| name.rsplit_once("/externalSystems/"))
        .ok_or_else(|| {
            Status::field(
                "external_system.name",
                "name: must be a finding's with /externalSystems/NAME.",
            )
        })?;
    let message = schema::message(&format!("{SCC}.ExternalSystem"));
    let mask = update.update_mask.checked(&message)?;
    let name = Name::resolve(service, finding)?;
    let finding = service
        .store
        .set_external_system(
            &name.stored,
            system,
            &update.external_system,
            &mask,
            caller.change(),
        )?
        .finding;
    let mut finding = shown(&finding, &name.scope)?;
    Ok(finding["externalSystems"][system].take())
}

/// A finding as a caller named it.
struct Name {
    /// Its name in the store; the caller's own when there is no such finding.
    stored: String,
    exists: bool,
    /// What the caller sees it under.
    scope: String,
}

impl Name {
    fn resolve(service: &Service, name: &str) -> Result<Self, Status> {
        let parsed = FindingName::parse(name)?;
        let stored = service.store.resolve(&parsed)?;
        Ok(Self {
            exists: stored.is_some(),
            stored: stored.unwrap_or_else(|| parsed.to_string()),
            scope: parsed.parent.scope,
        })
    }
}

/// What SCC demands of a finding that is sent to it.
fn check(finding: &Finding) -> Result<(), Status> {
    let uri = &finding.external_uri;
    // The page shows it as a link: nothing but the web may be behind it.
    if !uri.is_empty() && !uri.starts_with("https://") && !uri.starts_with("http://") {
        return Err(Status::field(
            "finding.external_uri",
            "external_uri: must be a URL of https or http.",
        ));
    }
    let latest = now().plus_ns(CLOCK_SKEW_NS);
    if finding.event_time.is_some_and(|time| time > latest) {
        return Err(Status::field(
            "finding.event_time",
            "event_time: must not be in the future.",
        ));
    }
    let good = |key: &str| {
        key.len() <= 255
            && key.starts_with(|first: char| first.is_ascii_alphabetic())
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match finding.source_properties.keys().find(|key| !good(key)) {
        Some(key) => Err(Status::field(
            "finding.source_properties",
            format!(
                "source_properties: {key:?} must be a letter followed by up to 254 letters, digits and underscores."
            ),
        )),
        None => Ok(()),
    }
}

/// How far the clock of a sender may be ahead.
const CLOCK_SKEW_NS: u64 = 5 * 60 * 1_000_000_000;

/// A finding as sent says no more of its resource than the name, and nothing that only the server says.
fn as_sent(mut finding: Finding) -> FindingResult {
    finding.canonical_name.clear();
    finding.parent_display_name.clear();
    finding.other.remove("contacts");
    let resource = Resource {
        name: finding.resource_name.clone(),
        ..Resource::default()
    };
    FindingResult { finding, resource }
}

/// A finding and its resource as `ListFindings` answers them, under the name that is stored.
pub(crate) fn listed(result: &FindingResult) -> Result<Value, serde_json::Error> {
    let json = json!({"finding": as_stored(&result.finding)?, "resource": result.resource});
    let message = schema::message(&format!("{SCC}.ListFindingsResponse.ListFindingsResult"));
    answer::to_json(message, &json)
}

/// A finding and its resource as SCC notifies of them, under the name that is stored.
pub(crate) fn notified(config: &str, result: &FindingResult) -> Result<Value, serde_json::Error> {
    let json = json!({
        "notificationConfigName": config,
        "finding": as_stored(&result.finding)?,
        "resource": result.resource,
    });
    let message = schema::message(&format!("{SCC}.NotificationMessage"));
    answer::to_json(message, &json)
}

fn as_stored(finding: &Finding) -> Result<Value, serde_json::Error> {
    serde_json::to_value(finding).map(canonical)
}

/// One without a name of its own has that under which it is kept.
fn canonical(mut finding: Value) -> Value {
    let name = finding.get("canonicalName").and_then(Value::as_str);
    if name.is_none_or(str::is_empty) {
        finding["canonicalName"] = finding["name"].clone();
    }
    finding
}

/// A finding as JSON, as seen from where the caller looks.
fn shown(finding: &Finding, scope: &str) -> Result<Value, Status> {
    let json = as_stored(finding).map_err(|error| Status::internal(&error))?;
    Ok(seen_from(scope, json))
}

/// Puts a finding's names under the folder or project that was asked for.
fn seen_from(scope: &str, mut json: Value) -> Value {
    let rename = |value: Option<&mut Value>| {
        if let Some(value) = value
            && let Some((_, rest)) = value.as_str().and_then(|name| name.split_once("/sources/"))
        {
            *value = format!("{scope}/sources/{rest}").into();
        }
    };
    rename(json.get_mut("name"));
    rename(json.get_mut("parent"));
    rename(json.pointer_mut("/securityMarks/name"));
    let systems = json
        .get_mut("externalSystems")
        .and_then(Value::as_object_mut);
    for system in systems.into_iter().flat_map(Map::values_mut) {
        rename(system.get_mut("name"));
    }
    json
}

/// The field is an int32 in SCC.
fn total_size(size: u64) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}
