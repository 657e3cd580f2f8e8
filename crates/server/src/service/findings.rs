//! Findings: list, group, create, update, state, mute, marks, tickets.

use serde::Deserialize;
use serde_json::{Value, json};
use store::name::SourceName;
use store::{GroupQuery, Query};

use super::{FieldMask, Service, answer, mask, request};
use crate::auth::Caller;
use crate::schema::{self, SCC};
use crate::status::Status;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
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
    let page = service.store.list(&Query {
        parent: list.parent,
        filter: list.filter,
        order_by: list.order_by,
        page_size: page_size(list.page_size)?,
        page_token: list.page_token,
    })?;
    let results = page
        .results
        .iter()
        .map(|result| {
            let finding = mask::project(shown(answer(&result.finding)?, &scope), &paths);
            Ok(json!({"finding": finding, "resource": answer(&result.resource)?}))
        })
        .collect::<Result<Vec<_>, Status>>()?;
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

/// A finding's names as seen from where the caller looks: under the folder or project that was asked for.
fn shown(mut finding: Value, scope: &str) -> Value {
    let rename = |value: Option<&mut Value>| {
        if let Some(value) = value
            && let Some((_, rest)) = value.as_str().and_then(|name| name.split_once("/sources/"))
        {
            *value = format!("{scope}/sources/{rest}").into();
        }
    };
    rename(finding.get_mut("name"));
    rename(finding.get_mut("parent"));
    rename(finding.pointer_mut("/securityMarks/name"));
    finding
}

/// Zero is the default, more than the largest is the largest (google.aip.dev/158), less is a mistake.
fn page_size(asked: i32) -> Result<u32, Status> {
    u32::try_from(asked).map_err(|_| Status::field("page_size", "page_size: must not be negative"))
}

/// The field is an int32 in SCC.
fn total_size(size: u64) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

pub(crate) fn create(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn update(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn set_state(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn set_mute(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn update_security_marks(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}

pub(crate) fn update_external_system(_: &Service, _: &Caller, _: Value) -> Result<Value, Status> {
    Err(Status::new(
        crate::status::Code::Unimplemented,
        "Not offered yet.",
    ))
}
