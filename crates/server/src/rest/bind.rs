//! From path, query and body to the request message.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::route::Found;
use crate::methods::Body;
use crate::schema::{self, Enums};
use crate::status::Status;

/// Query parameters that any Google API takes and that change nothing here.
const IGNORED: &[&str] = &["key", "quotaUser", "userIp", "prettyPrint", "$prettyPrint"];

/// A request, ready for its method.
pub(super) struct Bound {
    pub(super) message: DynamicMessage,
    /// How the answer writes enums.
    pub(super) enums: Enums,
}

/// Puts a request together. What the path says wins over what the body says.
pub(super) fn request(found: &Found, query: &str, body: &[u8]) -> Result<Bound, Status> {
    let descriptor = schema::message(&found.method.request());
    let mut json = Map::new();
    match found.route.http.body {
        Body::None if body.iter().all(u8::is_ascii_whitespace) => {}
        // Some clients send an empty object with a GET.
        Body::None => {
            if !parse(body)?.is_empty() {
                return Err(Status::invalid("This method takes no request body."));
            }
        }
        Body::All => json = parse(body)?,
        Body::Field(name) => {
            json.insert(json_name(&descriptor, name), Value::Object(parse(body)?));
        }
    }
    let enums = query_parameters(&descriptor, query, &mut json)?;
    set(&descriptor, &mut json, &found.route.field, &found.value);
    Ok(Bound {
        message: schema::parse(descriptor, Value::Object(json))?,
        enums,
    })
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, Status> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Status::invalid(
            "Invalid JSON payload received. Root element must be a message.",
        )),
        Err(error) => Err(Status::invalid(format!(
            "Invalid JSON payload received. {error}"
        ))),
    }
}

fn json_name(message: &MessageDescriptor, name: &str) -> String {
    message
        .get_field_by_name(name)
        .map_or_else(|| name.to_owned(), |field| field.json_name().to_owned())
}

/// Sets a field that the path gives.
fn set(message: &MessageDescriptor, json: &mut Map<String, Value>, path: &[&str], value: &str) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let key = json_name(message, first);
    if key != *first {
        // The other spelling in the body would be a second value of the field.
        json.remove(*first);
    }
    match message.get_field_by_name(first).map(|field| field.kind()) {
        Some(Kind::Message(inner)) if !rest.is_empty() => {
            let slot = json.entry(key).or_insert_with(|| json!({}));
            if let Value::Object(object) = slot {
                set(&inner, object, rest, value);
            }
        }
        _ => {
            json.insert(key, Value::from(value));
        }
    }
}

fn query_parameters(
    message: &MessageDescriptor,
    query: &str,
    json: &mut Map<String, Value>,
) -> Result<Enums, Status> {
    let mut enums = Enums::Names;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "$alt" | "alt" => enums = alt(&value)?,
            name if IGNORED.contains(&name) => {}
            name => {
                let path: Vec<&str> = name.split('.').collect();
                parameter(message, json, &path, &value).ok_or_else(|| {
                    Status::invalid(format!(
                        "Invalid JSON payload received. Unknown name {name:?}: Cannot bind query parameter. \
                         Field {name:?} could not be found in request message."
                    ))
                })?;
            }
        }
    }
    Ok(enums)
}

fn alt(value: &str) -> Result<Enums, Status> {
    match value {
        "json" => Ok(Enums::Names),
        "json;enum-encoding=int" => Ok(Enums::Numbers),
        _ => Err(Status::invalid(format!(
            "$alt={value}: only json and json;enum-encoding=int are offered."
        ))),
    }
}

/// Adds one query parameter. `None` when the message has no such field.
fn parameter(
    message: &MessageDescriptor,
    json: &mut Map<String, Value>,
    path: &[&str],
    value: &str,
) -> Option<()> {
    let (first, rest) = path.split_first()?;
    let field = message
        .get_field_by_json_name(first)
        .or_else(|| message.get_field_by_name(first))?;
    let key = field.json_name().to_owned();
    match field.kind() {
        Kind::Message(inner) if inner.full_name() == "hullwatch.FieldMask" && rest.is_empty() => {
            let paths: Vec<&str> = value.split(',').filter(|path| !path.is_empty()).collect();
            json.insert(key, json!({"paths": paths}));
        }
        Kind::Message(inner) if !rest.is_empty() && !field.is_list() && !field.is_map() => {
            let slot = json.entry(key).or_insert_with(|| json!({}));
            parameter(&inner, slot.as_object_mut()?, rest, value)?;
        }
        Kind::Message(_) => return None,
        _ if !rest.is_empty() => return None,
        _ if field.is_list() => {
            let slot = json.entry(key).or_insert_with(|| json!([]));
            slot.as_array_mut()?.push(scalar(&field, value));
        }
        _ => {
            json.insert(key, scalar(&field, value));
        }
    }
    Some(())
}

/// The JSON value that a text stands for; the schema refuses what does not fit.
fn scalar(field: &FieldDescriptor, value: &str) -> Value {
    match field.kind() {
        Kind::Bool => match value {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::from(value),
        },
        Kind::Enum(_) => value
            .parse::<i32>()
            .map_or_else(|_| Value::from(value), Value::from),
        _ => Value::from(value),
    }
}
