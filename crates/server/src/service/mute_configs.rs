//! Mute configs: rules that mute findings.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{MuteConfig, MuteConfigType};

use super::config::{self, List, Named};
use super::{FieldMask, Service, answer, request};
use crate::app::now;
use crate::auth::Caller;
use crate::status::Status;

/// `ListMuteConfigs`.
pub(crate) fn list(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    config::list::<MuteConfig>(service, &request::<List>(json)?, "muteConfigs")
}

/// `GetMuteConfig`.
pub(crate) fn get(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let get: Named = request(json)?;
    answer(&service.store.resource::<MuteConfig>(&get.name)?)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CreateMuteConfig {
    parent: String,
    mute_config: MuteConfig,
    mute_config_id: String,
}

/// `CreateMuteConfig`.
pub(crate) fn create(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let CreateMuteConfig {
        parent,
        mut mute_config,
        mute_config_id: id,
    } = request(json)?;
    let good = (1..=63).contains(&id.len())
        && id.starts_with(|first: char| first.is_ascii_lowercase())
        && !id.ends_with('-')
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !good {
        return Err(Status::field(
            "mute_config_id",
            "mute_config_id: must be a lower-case letter followed by up to 62 lower-case letters, digits and hyphens.",
        ));
    }
    config::at_most("description", &mute_config.description, 1024)?;
    mute_config.name = format!("{}/muteConfigs/{id}", with_location(&parent));
    mute_config.create_time = Some(now());
    mute_config.update_time = mute_config.create_time;
    mute_config.most_recent_editor.clone_from(&caller.name);
    service.store.create(&mute_config, caller.change())?;
    if mute_config.kind == MuteConfigType::Dynamic {
        service.maintenance.refresh();
    }
    answer(&mute_config)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateMuteConfig {
    mute_config: Map<String, Value>,
    update_mask: FieldMask,
}

/// `UpdateMuteConfig`. The type never changes.
pub(crate) fn update(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let update: UpdateMuteConfig = request(json)?;
    let description = update.mute_config.get("description");
    config::at_most(
        "description",
        description.and_then(Value::as_str).unwrap_or_default(),
        1024,
    )?;
    let updated: MuteConfig = config::update(
        service,
        caller,
        "MuteConfig",
        &["description", "filter", "expiryTime"],
        &update.mute_config,
        &update.update_mask,
        |config: &mut MuteConfig| {
            config.update_time = Some(now());
            config.most_recent_editor.clone_from(&caller.name);
        },
    )?;
    if updated.kind == MuteConfigType::Dynamic {
        service.maintenance.refresh();
    }
    answer(&updated)
}

/// `DeleteMuteConfig`. What a static rule muted stays muted; what a dynamic one muted does not.
pub(crate) fn delete(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let delete: Named = request(json)?;
    service
        .store
        .delete::<MuteConfig>(&delete.name, caller.change())?;
    service.maintenance.refresh();
    Ok(json!({}))
}

/// A missing location is `global`.
fn with_location(parent: &str) -> String {
    if parent.contains("/locations/") {
        parent.to_owned()
    } else {
        format!("{parent}/locations/global")
    }
}
