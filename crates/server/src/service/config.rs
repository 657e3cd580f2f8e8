//! What sources, mute configs and notification configs have in common: listing and masked updates.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::Resource;

use super::{FieldMask, Service, answer, mask, page_size};
use crate::auth::Caller;
use crate::schema::{self, SCC};
use crate::status::Status;

/// A request for a page of things under a parent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct List {
    pub(super) parent: String,
    page_size: i32,
    page_token: String,
}

/// One page, as field `field` of the answer.
pub(super) fn list<R: Resource>(
    service: &Service,
    list: &List,
    field: &str,
) -> Result<Value, Status> {
    let page =
        service
            .store
            .resources::<R>(&list.parent, page_size(list.page_size)?, &list.page_token)?;
    let results = page
        .results
        .iter()
        .map(answer)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json!({field: results, "nextPageToken": page.next_page_token}))
}

/// The field `field` of a request that has only a name.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
}

/// Gives the fields of a thing their new values: those in the mask, or all of `mutable` when it is empty. `stamp` sets what the
/// server keeps itself.
pub(super) fn update<R: Resource>(
    service: &Service,
    caller: &Caller,
    message: &str,
    mutable: &[&str],
    given: &Map<String, Value>,
    update_mask: &FieldMask,
    stamp: impl FnOnce(&mut R),
) -> Result<R, Status> {
    let descriptor = schema::message(&format!("{SCC}.{message}"));
    let mut paths = Vec::new();
    for path in update_mask.checked(&descriptor)? {
        let path = mask::resolve(&descriptor, "update_mask", path)?;
        let root = path.first().map(String::as_str).unwrap_or_default();
        if !mutable.contains(&root) {
            return Err(Status::field(
                "update_mask",
                format!("update_mask: {root} of a {message} cannot be updated."),
            ));
        }
        paths.push(path);
    }
    if paths.is_empty() {
        paths = mutable
            .iter()
            .map(|field| vec![(*field).to_owned()])
            .collect();
    }
    let name = given
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let invalid = |error: serde_json::Error| store::Error::Invalid {
        what: "update_mask",
        why: error.to_string(),
    };
    let source = Value::Object(given.clone());
    let updated = service.store.update(name, caller.change(), |old: R| {
        let mut next = serde_json::to_value(&old).map_err(invalid)?;
        for path in &paths {
            store::copy_path(&mut next, &source, path);
        }
        let mut next: R = serde_json::from_value(next).map_err(invalid)?;
        stamp(&mut next);
        Ok(next)
    })?;
    Ok(updated)
}

/// Refuses a text that is longer than SCC allows.
pub(super) fn at_most(field: &'static str, text: &str, characters: usize) -> Result<(), Status> {
    if text.chars().count() > characters {
        return Err(Status::field(
            field,
            format!("{field}: must have at most {characters} characters."),
        ));
    }
    Ok(())
}
