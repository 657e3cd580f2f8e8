//! The rules behind API and pages, each once. Requests and answers are ProtoJSON values; storage is the store's.

mod config;
pub(crate) mod findings;
pub(crate) mod iam;
mod maintenance;
mod mask;
pub(crate) mod mute_configs;
pub(crate) mod notification_configs;
pub(crate) mod operations;
pub(crate) mod sources;

use std::sync::Arc;

use prost_reflect::MessageDescriptor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Store;

use crate::listen::Error;
use crate::status::Status;

/// All that methods need. Shared by reference.
pub struct Service {
    store: Arc<Store>,
    /// `organizations/O` that the agent's own findings are under.
    organization: String,
    operations: operations::Running,
    maintenance: maintenance::Maintenance,
}

impl Service {
    /// The rules over this store. `source` is that of the agent's findings, `organizations/O/sources/S`; it is made when it is
    /// not there.
    pub fn new(store: Arc<Store>, source: &str) -> Result<Self, Error> {
        sources::make_own(&store, source)?;
        operations::give_up_unfinished(&store)?;
        Ok(Self {
            organization: source.split('/').take(2).collect::<Vec<_>>().join("/"),
            operations: operations::Running::default(),
            maintenance: maintenance::Maintenance::start(Arc::clone(&store))
                .map_err(Error::Runtime)?,
            store,
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// A request as the type that its handler works with.
fn request<T: DeserializeOwned>(json: Value) -> Result<T, Status> {
    serde_json::from_value(json).map_err(|error| Status::invalid(error.to_string()))
}

/// An answer as ProtoJSON.
fn answer(value: &impl Serialize) -> Result<Value, Status> {
    serde_json::to_value(value).map_err(|error| Status::internal(&error))
}

/// `google.protobuf.FieldMask`.
#[derive(Debug, Default, serde::Deserialize)]
struct FieldMask {
    #[serde(default)]
    paths: Vec<String>,
}

impl FieldMask {
    /// The paths of an `update_mask`, each of which must be a field of the message. None stands for all fields, as does `*`
    /// (google.aip.dev/134).
    fn checked(&self, message: &MessageDescriptor) -> Result<Vec<&str>, Status> {
        if self.paths == ["*"] {
            return Ok(Vec::new());
        }
        let checked = |path: &String| mask::resolve(message, "update_mask", path).map(drop);
        self.paths.iter().try_for_each(checked)?;
        Ok(self.paths.iter().map(String::as_str).collect())
    }
}

/// Zero is the default, more than the largest is the largest (google.aip.dev/158), less is a mistake.
fn page_size(asked: i32) -> Result<u32, Status> {
    u32::try_from(asked).map_err(|_| Status::field("page_size", "page_size: must not be negative."))
}
