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
use store::{AuditEntry, Store};

use crate::app::now;
use crate::auth::Caller;
use crate::methods::Method;
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

    /// Does what a method says, and keeps a line of the audit log when it is to change something.
    pub(crate) fn call(
        &self,
        method: &Method,
        caller: &Caller,
        request: Value,
    ) -> Result<Value, Status> {
        if !method.changes() {
            return (method.handler)(self, caller, request);
        }
        let target = request
            .pointer(&method.target())
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.audited(caller, method.name, &target, || {
            (method.handler)(self, caller, request)
        })
    }

    /// Makes a change with a line of the audit log: written before, so that a kill in between leaves a trace.
    pub fn audited<T>(
        &self,
        caller: &Caller,
        action: &str,
        target: &str,
        change: impl FnOnce() -> Result<T, Status>,
    ) -> Result<T, Status> {
        let line = self.store.audit(&AuditEntry {
            time: now(),
            actor: caller.name.clone(),
            peer: caller.peer.to_string(),
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: None,
        })?;
        let result = change();
        let outcome = match &result {
            Ok(_) => "OK",
            Err(status) => status.code.name(),
        };
        self.store.audit_outcome(line, outcome)?;
        tracing::info!(
            actor.name = %caller.name,
            "{} asked for {action} of {target}: {outcome}",
            caller.name
        );
        result
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
