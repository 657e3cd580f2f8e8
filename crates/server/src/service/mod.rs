//! The rules behind API and pages, each once. Requests and answers are ProtoJSON values; storage is the store's.

pub(crate) mod findings;
pub(crate) mod iam;
mod mask;
pub(crate) mod mute_configs;
pub(crate) mod notification_configs;
pub(crate) mod operations;
pub(crate) mod sources;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Store;

use crate::status::Status;

/// All that methods need. Shared by reference.
pub struct Service {
    store: Arc<Store>,
}

impl Service {
    /// The rules over this store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
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
