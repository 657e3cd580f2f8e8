//! Notification configs: findings that are sent on.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::NotificationConfig;

use super::config::{self, List, Named};
use super::{FieldMask, Service, answer, request};
use crate::auth::Caller;
use crate::status::Status;

/// `ListNotificationConfigs`.
pub(crate) fn list(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let list: List = request(json)?;
    config::list::<NotificationConfig>(service, &list, "notificationConfigs")
}

/// `GetNotificationConfig`.
pub(crate) fn get(service: &Service, _: &Caller, json: Value) -> Result<Value, Status> {
    let get: Named = request(json)?;
    answer(&service.store.resource::<NotificationConfig>(&get.name)?)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CreateNotificationConfig {
    parent: String,
    config_id: String,
    notification_config: NotificationConfig,
}

/// `CreateNotificationConfig`.
pub(crate) fn create(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let CreateNotificationConfig {
        parent,
        config_id: id,
        mut notification_config,
    } = request(json)?;
    let good = (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !good {
        return Err(Status::field(
            "config_id",
            "config_id: must be 1 to 128 letters, digits, hyphens and underscores.",
        ));
    }
    config::at_most("description", &notification_config.description, 1024)?;
    config::at_most("pubsub_topic", &notification_config.pubsub_topic, 1024)?;
    notification_config.name = format!("{parent}/notificationConfigs/{id}");
    // Output only in SCC: nobody's account publishes here.
    notification_config.service_account.clear();
    service
        .store
        .create(&notification_config, caller.change())?;
    answer(&notification_config)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateNotificationConfig {
    notification_config: Map<String, Value>,
    update_mask: FieldMask,
}

/// `UpdateNotificationConfig`.
pub(crate) fn update(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let update: UpdateNotificationConfig = request(json)?;
    for (field, name) in [
        ("description", "description"),
        ("pubsub_topic", "pubsubTopic"),
    ] {
        let text = update.notification_config.get(name).and_then(Value::as_str);
        config::at_most(field, text.unwrap_or_default(), 1024)?;
    }
    let updated: NotificationConfig = config::update(
        service,
        caller,
        "NotificationConfig",
        &["description", "pubsubTopic", "streamingConfig"],
        &update.notification_config,
        &update.update_mask,
        |_| {},
    )?;
    answer(&updated)
}

/// `DeleteNotificationConfig`.
pub(crate) fn delete(service: &Service, caller: &Caller, json: Value) -> Result<Value, Status> {
    let delete: Named = request(json)?;
    service
        .store
        .delete::<NotificationConfig>(&delete.name, caller.change())?;
    Ok(json!({}))
}
