//! The OpenAPI document of the REST side, made from the method table and the schema.

use serde_json::{Value, json};

/// The document.
pub(crate) fn document() -> Value {
    json!({})
}
