//! What is configured through the API: sources, mute configs, notification configs, long-running operations. Each is
//! kept as the API's own JSON under its name.

use model::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::name::{SourceName, all_sources_of};
use crate::page::Token;
use crate::query::page_size;
use crate::{Change, Error, Store, audit, filter, notify};

/// A thing kept under its name.
pub trait Resource: Serialize + DeserializeOwned {
    /// Collection, as in the name: `muteConfigs`.
    const KIND: &'static str;

    /// The whole name: `organizations/1/locations/global/muteConfigs/x`.
    fn name(&self) -> &str;

    /// Refuses what must not be stored.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// `Source`: where findings come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// `organizations/O/sources/S`.
    pub name: String,
    /// 1 to 64 characters.
    pub display_name: String,
    /// At most 1,024 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The same as the name here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub canonical_name: String,
}

impl Resource for Source {
    const KIND: &'static str = "sources";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), Error> {
        let length = self.display_name.chars().count();
        if length == 0 || length > 64 {
            return Err(Error::invalid(
                "display_name",
                "must have 1 to 64 characters",
            ));
        }
        if self.description.chars().count() > 1024 {
            return Err(Error::invalid(
                "description",
                "must have at most 1024 characters",
            ));
        }
        Ok(())
    }
}

/// `MuteConfig`: a rule that mutes findings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MuteConfig {
    /// `organizations/O/locations/L/muteConfigs/M`.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which findings.
    pub filter: String,
    /// How long it acts. Never changes.
    #[serde(rename = "type")]
    pub kind: MuteConfigType,
    /// Made.
    pub create_time: Option<Timestamp>,
    /// Changed.
    pub update_time: Option<Timestamp>,
    /// By whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub most_recent_editor: String,
    /// When a dynamic rule ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_time: Option<Timestamp>,
}

/// `MuteConfig.MuteConfigType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MuteConfigType {
    /// Not set.
    #[default]
    MuteConfigTypeUnspecified,
    /// Mutes matching findings when they are made, for ever.
    Static,
    /// Mutes all that match for as long as they match.
    Dynamic,
}

impl Resource for MuteConfig {
    const KIND: &'static str = "muteConfigs";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), Error> {
        if self.filter.trim().is_empty() {
            return Err(Error::invalid(
                "filter",
                "a mute config must not match everything",
            ));
        }
        filter::check(&self.filter)?;
        // Its own effect would decide whether it matches.
        let filter = filter::parse(&self.filter)?;
        if filter::fields_of(&filter)
            .iter()
            .any(|field| field.starts_with("mute"))
        {
            return Err(Error::invalid(
                "filter",
                "a mute config must not depend on what is muted",
            ));
        }
        match (self.kind, self.expiry_time) {
            (MuteConfigType::MuteConfigTypeUnspecified, _) => {
                Err(Error::invalid("type", "must be STATIC or DYNAMIC"))
            }
            (MuteConfigType::Static, Some(_)) => Err(Error::invalid(
                "expiry_time",
                "only a dynamic mute config expires",
            )),
            _ => Ok(()),
        }
    }
}

/// `NotificationConfig`: findings that are sent on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotificationConfig {
    /// `organizations/O/locations/L/notificationConfigs/N`.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where to, in SCC's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pubsub_topic: String,
    /// Who publishes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// Which findings.
    pub streaming_config: StreamingConfig,
}

/// `NotificationConfig.StreamingConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamingConfig {
    /// Which findings; empty for all.
    pub filter: String,
}

impl Resource for NotificationConfig {
    const KIND: &'static str = "notificationConfigs";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), Error> {
        Ok(filter::check(&self.streaming_config.filter)?)
    }
}

/// `google.longrunning.Operation`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// `organizations/O/operations/X`.
    pub name: String,
    /// Progress, with `@type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// Has it ended.
    pub done: bool,
    /// `google.rpc.Status`, when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// What it returned, with `@type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

impl Resource for Operation {
    const KIND: &'static str = "operations";

    fn name(&self) -> &str {
        &self.name
    }
}

/// One page of resources.
#[derive(Clone, Debug)]
pub struct ResourcePage<R> {
    /// In order of their names.
    pub results: Vec<R>,
    /// Empty on the last page.
    pub next_page_token: String,
}

impl Store {
    /// Adds a resource.
    pub fn create<R: Resource>(&self, resource: &R, change: Change<'_>) -> Result<(), Error> {
        resource.check()?;
        let (parent, name) = split::<R>(resource.name())?;
        self.database.write(|db| {
            let body = serde_json::to_string(resource)?;
            let added = db.execute(
                "INSERT INTO resource (kind, parent, name, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                params![R::KIND, parent, name, body],
            )?;
            if added == 0 {
                return Err(Error::Exists(name));
            }
            changed::<R>(db, change, "create", &name, resource)
        })
    }

    /// Replaces a resource by its next version, made from the present one in the same transaction.
    pub fn update<R: Resource>(
        &self,
        name: &str,
        change: Change<'_>,
        next: impl FnOnce(R) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (parent, name) = split::<R>(name)?;
        self.database.write(|db| {
            let new = next(read::<R>(db, &parent, &name)?)?;
            new.check()?;
            db.execute(
                "UPDATE resource SET body = $1 WHERE kind = $2 AND parent = $3 AND name = $4",
                params![serde_json::to_string(&new)?, R::KIND, parent, name],
            )?;
            changed::<R>(db, change, "update", &name, &new)?;
            Ok(new)
        })
    }

    /// Removes a resource.
    pub fn delete<R: Resource>(&self, name: &str, change: Change<'_>) -> Result<(), Error> {
        let (parent, name) = split::<R>(name)?;
        self.database.write(|db| {
            let removed = db.execute(
                "DELETE FROM resource WHERE kind = $1 AND parent = $2 AND name = $3",
                params![R::KIND, parent, name],
            )?;
            if removed == 0 {
                return Err(Error::NotFound(name));
            }
            notify::forget_sink(db, R::KIND, &name)?;
            audit::note(
                db,
                change,
                &format!("delete {}", R::KIND),
                &name,
                &Value::Null,
            )
        })
    }

    /// The resource of this name.
    pub fn resource<R: Resource>(&self, name: &str) -> Result<R, Error> {
        let (parent, name) = split::<R>(name)?;
        self.database.read(|db| read::<R>(db, &parent, &name))
    }

    /// The resources under a parent such as `organizations/1` or `organizations/1/locations/global`.
    pub fn resources<R: Resource>(
        &self,
        parent: &str,
        asked: u32,
        page_token: &str,
    ) -> Result<ResourcePage<R>, Error> {
        let parent = normal_parent::<R>(parent);
        let identity = [R::KIND, parent.as_str()];
        let token = Token::read(page_token, &identity)?;
        let after = token
            .as_ref()
            .and_then(|token| token.keys.first()?.as_str());
        let size = page_size(asked) as usize;
        self.database.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT name, body FROM resource WHERE kind = $1 AND parent = $2 AND name > $3 ORDER BY name LIMIT $4",
            )?;
            let mut rows = statement.query(params![
                R::KIND,
                parent,
                after.unwrap_or_default(),
                size as i64 + 1
            ])?;
            let mut found: Vec<(String, R)> = Vec::new();
            while let Some(row) = rows.next()? {
                found.push((row.get(0)?, serde_json::from_str(&row.get::<_, String>(1)?)?));
            }
            let more = found.len() > size;
            found.truncate(size);
            let next_page_token = match found.last() {
                Some((name, _)) if more => Token::new(&identity, vec![json!(name)], (0, 0), 0).to_string(),
                _ => String::new(),
            };
            Ok(ResourcePage {
                results: found.into_iter().map(|(_, resource)| resource).collect(),
                next_page_token,
            })
        })
    }
}

/// All of a kind, whatever their parent.
pub(crate) fn all<R: Resource>(db: &Connection) -> Result<Vec<R>, Error> {
    let mut statement =
        db.prepare_cached("SELECT body FROM resource WHERE kind = $1 ORDER BY name")?;
    let bodies = statement.query_map([R::KIND], |row| row.get::<_, String>(0))?;
    bodies
        .map(|body| Ok(serde_json::from_str(&body?)?))
        .collect()
}

fn read<R: Resource>(db: &Connection, parent: &str, name: &str) -> Result<R, Error> {
    let body: Option<String> = db
        .prepare_cached("SELECT body FROM resource WHERE kind = $1 AND parent = $2 AND name = $3")?
        .query_row(params![R::KIND, parent, name], |row| row.get(0))
        .optional()?;
    let body = body.ok_or_else(|| Error::NotFound(name.to_owned()))?;
    Ok(serde_json::from_str(&body)?)
}

fn changed<R: Resource>(
    db: &Transaction<'_>,
    change: Change<'_>,
    verb: &str,
    name: &str,
    resource: &R,
) -> Result<(), Error> {
    let body = serde_json::to_value(resource)?;
    if R::KIND == NotificationConfig::KIND {
        let filter = body
            .pointer("/streamingConfig/filter")
            .and_then(Value::as_str);
        notify::set_sink(db, name, filter.unwrap_or_default())?;
    }
    audit::note(db, change, &format!("{verb} {}", R::KIND), name, &body)
}

/// Parent and name, with `locations/global` where the kind has locations and none is given.
fn split<R: Resource>(name: &str) -> Result<(String, String), Error> {
    let bad = || {
        Error::invalid(
            "name",
            format!("{name:?} is not the name of one of {}", R::KIND),
        )
    };
    let (parent, id) = name.split_once(&format!("/{}/", R::KIND)).ok_or_else(bad)?;
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    // Findings are matched under it.
    let known = SourceName::parse(&all_sources_of(parent)).is_ok();
    if !known || id.is_empty() || id.len() > 128 || !id.bytes().all(ok) {
        return Err(bad());
    }
    let parent = normal_parent::<R>(parent);
    let name = format!("{parent}/{}/{id}", R::KIND);
    Ok((parent, name))
}

fn normal_parent<R: Resource>(parent: &str) -> String {
    let has_location = matches!(R::KIND, "muteConfigs" | "notificationConfigs");
    if has_location && !parent.contains("/locations/") {
        format!("{parent}/locations/global")
    } else {
        parent.to_owned()
    }
}
