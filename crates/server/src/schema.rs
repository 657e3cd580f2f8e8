//! The wire format: one schema for protobuf bytes and ProtoJSON, and the conversions between them.
//!
//! `proto/*.proto` declare it; `schema.binpb` is their compiled form (a test keeps the two together).

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde_json::Value;

use crate::status::Status;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!("schema.binpb").as_slice())
        .expect("a test compiles the schema and loads it")
});

/// The package of SCC's own messages.
pub(crate) const SCC: &str = "google.cloud.securitycenter.v2";

/// How enums are written in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Enums {
    /// By name: ProtoJSON's default.
    #[default]
    Names,
    /// By number: `$alt=json;enum-encoding=int`.
    Numbers,
}

/// The message of this full name.
pub(crate) fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name)
        .unwrap_or_else(|| panic!("the method table names only messages of the schema, not {name}"))
}

/// Reads a request's JSON. Enums may be names or numbers, 64-bit integers strings or numbers, field names either
/// spelling; a field that the message does not have is refused, as Google does.
pub(crate) fn parse(message: MessageDescriptor, json: Value) -> Result<DynamicMessage, Status> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(json, &mut track);
    DynamicMessage::deserialize_with_options(message, tracked, &options).map_err(|error| {
        Status::invalid(format!(
            "Invalid JSON payload received. Invalid value at '{}': {error}.",
            track.path()
        ))
    })
}

/// Makes an answer from what the service gives. What is no part of the schema stays behind: the agent may keep more
/// about a finding than SCC has fields for.
pub(crate) fn build(
    message: MessageDescriptor,
    json: Value,
) -> Result<DynamicMessage, serde_json::Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(message, json, &options)
}

/// ProtoJSON with names of enums.
pub(crate) fn to_json(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    message.serialize_with_options(serde_json::value::Serializer, &options(Enums::Names))
}

/// ProtoJSON as bytes, for the wire.
pub(crate) fn to_bytes(
    message: &DynamicMessage,
    enums: Enums,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    message.serialize_with_options(
        &mut serde_json::Serializer::new(&mut bytes),
        &options(enums),
    )?;
    Ok(bytes)
}

/// Fields with default values are left out, 64-bit integers are strings.
fn options(enums: Enums) -> SerializeOptions {
    SerializeOptions::new()
        .skip_default_fields(true)
        .stringify_64_bit_integers(true)
        .use_enum_numbers(enums == Enums::Numbers)
}
