//! Sources: where findings come from.

use serde::Deserialize;
use serde_json::{Map, Value};
use store::name::SourceName;
use store::{Change, Source, Store};

use super::config::{self, List, Named};
use super::{FieldMask, Service, answer, request};
use crate::app::now;
use crate::auth::Caller;
use crate::schema::{self, SCC};
use crate::status::{Code, Status};

/// Sources looked at when a display name must be unique.
const SOURCES_MAX: u32 = 1000;

/// `ListSources`. Folders and projects see those of their organization.
pub(crate) fn list(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let mut list: List = request(json)?;
    let scope = list.parent.clone();
    let is_organization = scope.starts_with("organizations/");
    if !is_organization {
        list.parent.clone_from(&service.organization);
    }
    let mut page = config::list::<Source>(service, &list, "sources")?;
    let sources = page["sources"].as_array_mut();
    for source in sources.into_iter().flatten().filter(|_| !is_organization) {
        let name = source["name"].as_str().unwrap_or_default();
        if let Some((_, id)) = name.rsplit_once('/') {
            source["name"] = format!("{scope}/sources/{id}").into();
        }
    }
    Ok(page)
}

/// `GetSource`.
pub(crate) fn get(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let get: Named = request(json)?;
    answer(&find(service, &get.name)?)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CreateSource {
    parent: String,
    source: Source,
}

/// `CreateSource`. The server chooses the id.
pub(crate) fn create(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let CreateSource { parent, mut source } = request(json)?;
    if !parent.starts_with("organizations/") {
        return Err(Status::field("parent", "parent: must be an organization."));
    }
    source.name = format!("{parent}/sources/{}", random_id());
    must_be_unique(service, &parent, &source.name, &source.display_name)?;
    source.canonical_name.clone_from(&source.name);
    service.store.create(&source, caller.change())?;
    answer(&source)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateSource {
    source: Map<String, Value>,
    update_mask: FieldMask,
}

/// `UpdateSource`.
pub(crate) fn update(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let update: UpdateSource = request(json)?;
    let text = |field| update.source.get(field).and_then(Value::as_str);
    let (name, display_name) = (text("name"), text("displayName"));
    let paths = update
        .update_mask
        .checked(&schema::message(&format!("{SCC}.Source")))?;
    let renames = paths.is_empty()
        || paths
            .iter()
            .any(|path| ["displayName", "display_name"].contains(path));
    if let (Some(name), Some(display_name), true) = (name, display_name, renames)
        && let Some((parent, _)) = name.split_once("/sources/")
    {
        must_be_unique(service, parent, name, display_name)?;
    }
    let source: Source = config::update(
        service,
        caller,
        "Source",
        &["displayName", "description"],
        &update.source,
        &update.update_mask,
        |_| {},
    )?;
    answer(&source)
}

/// Refuses a display name that another source of the organization has.
fn must_be_unique(
    service: &Service,
    parent: &str,
    name: &str,
    display_name: &str,
) -> Result<(), Status> {
    let siblings = service
        .store
        .resources::<Source>(parent, SOURCES_MAX, "")?
        .results;
    if siblings
        .iter()
        .any(|sibling| sibling.name != name && sibling.display_name == display_name)
    {
        return Err(Status::new(
            Code::AlreadyExists,
            format!("There is a source {display_name:?} already."),
        ));
    }
    Ok(())
}

/// The source of this name.
pub(super) fn find(service: &Service, name: &str) -> Result<Source, Status> {
    Ok(service.store.resource(name)?)
}

/// Refuses findings for a source that is not there.
pub(super) fn must_exist(service: &Service, parent: &SourceName) -> Result<(), Status> {
    find(
        service,
        &format!("{}/sources/{}", parent.scope, parent.source),
    )
    .map(drop)
}

/// Makes the source of the agent's own findings, unless it is there.
pub(super) fn make_own(store: &Store, name: &str) -> Result<(), store::Error> {
    let source = Source {
        name: name.to_owned(),
        canonical_name: name.to_owned(),
        display_name: "Hullwatch".to_owned(),
        description: "Container threats found by Hullwatch's own sensors.".to_owned(),
    };
    let change = Change {
        who: "hullwatch",
        now: now(),
    };
    match store.resource::<Source>(name) {
        Err(store::Error::NotFound(_)) => {}
        other => return other.map(drop),
    }
    match store.create(&source, change) {
        // Another process was first.
        Err(store::Error::Exists(_)) => Ok(()),
        other => other,
    }
}

/// As SCC's: a long number.
fn random_id() -> String {
    let hex = crate::auth::random_hex::<8>();
    u64::from_str_radix(&hex, 16)
        .unwrap_or_default()
        .to_string()
}
