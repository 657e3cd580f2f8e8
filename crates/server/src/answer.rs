//! An answer in ProtoJSON, straight from what the service gives: what [`schema::to_bytes`] makes of the message, without
//! making the message. A page of findings takes a fifth of the time.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::schema::{self, Enums};

/// Fields with default values and what is no part of the schema are left out, 64-bit integers are strings.
pub(crate) fn to_bytes(
    message: MessageDescriptor,
    json: &Value,
    enums: Enums,
) -> Result<Vec<u8>, serde_json::Error> {
    let direct = Single {
        kind: Kind::Message(message.clone()),
        json,
        enums,
    };
    // What is in no form that is known here may still be one that messages are read from.
    serde_json::to_vec(&direct)
        .or_else(|_| schema::to_bytes(&schema::build(message, json.clone())?, enums))
}

/// The same as JSON, with names of enums: for those who are told without having called.
pub(crate) fn to_json(
    message: MessageDescriptor,
    json: &Value,
) -> Result<Value, serde_json::Error> {
    let direct = Single {
        kind: Kind::Message(message.clone()),
        json,
        enums: Enums::Names,
    };
    serde_json::to_value(&direct)
        .or_else(|_| schema::to_json(&schema::build(message, json.clone())?))
}

struct Message<'a> {
    descriptor: &'a MessageDescriptor,
    json: &'a Map<String, Value>,
    enums: Enums,
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, json) in self.json {
            let field = self
                .descriptor
                .get_field_by_json_name(name)
                .or_else(|| self.descriptor.get_field_by_name(name));
            if let Some(field) = field
                && !is_left_out(&field, json)
            {
                let enums = self.enums;
                let value = Field { field, json, enums };
                map.serialize_entry(value.field.json_name(), &value)?;
            }
        }
        map.end()
    }
}

fn is_left_out(field: &FieldDescriptor, json: &Value) -> bool {
    match (field.kind(), json) {
        (kind, Value::Null) => !is_any_json(&kind) || field.is_list() || field.is_map(),
        (_, Value::Array(elements)) if field.is_list() => elements.is_empty(),
        (_, Value::Object(entries)) if field.is_map() => entries.is_empty(),
        _ if field.is_list() || field.is_map() || field.supports_presence() => false,
        (Kind::String | Kind::Bytes, Value::String(text)) => text.is_empty(),
        (Kind::Enum(values), Value::String(name)) => {
            let value = values.get_value_by_name(name);
            value.is_some_and(|value| value.number() == 0)
        }
        (Kind::Int64, Value::String(text)) => text == "0",
        (Kind::Int64 | Kind::Int32 | Kind::Double, Value::Number(number)) => {
            number.as_f64() == Some(0.0)
        }
        (Kind::Bool, Value::Bool(flag)) => !flag,
        _ => false,
    }
}

fn is_any_json(kind: &Kind) -> bool {
    kind.as_message()
        .is_some_and(|message| message.full_name() == "google.protobuf.Value")
}

struct Field<'a> {
    field: FieldDescriptor,
    json: &'a Value,
    enums: Enums,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { field, json, enums } = self;
        let single = |kind: Kind, json| Single {
            kind,
            json,
            enums: *enums,
        };
        match (field.kind(), json) {
            (Kind::Message(entry), Value::Object(entries)) if field.is_map() => {
                let kind = entry.map_entry_value_field().kind();
                let entries = entries.iter();
                serializer.collect_map(entries.map(|(key, json)| (key, single(kind.clone(), json))))
            }
            (kind, Value::Array(elements)) if field.is_list() => {
                let elements = elements.iter();
                serializer.collect_seq(elements.map(|json| single(kind.clone(), json)))
            }
            (kind, json) if !field.is_list() && !field.is_map() => {
                single(kind, json).serialize(serializer)
            }
            _ => Err(S::Error::custom(format!("{field:?} is not {json}"))),
        }
    }
}

/// One value: that of a field, or one of its list or map.
struct Single<'a> {
    kind: Kind,
    json: &'a Value,
    enums: Enums,
}

impl Serialize for Single<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { kind, json, enums } = self;
        match (kind, json) {
            (Kind::String, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => {
                json.serialize(serializer)
            }
            (Kind::Int64, Value::String(text)) if text.parse::<i64>().is_ok() => {
                serializer.serialize_str(text)
            }
            (Kind::Int64, Value::Number(number)) if number.is_i64() => {
                serializer.collect_str(number)
            }
            (Kind::Int32, Value::Number(number))
                if number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok()) =>
            {
                number.serialize(serializer)
            }
            (Kind::Double, Value::Number(_)) => json.serialize(serializer),
            (Kind::Enum(values), Value::String(name)) => {
                let value = values
                    .get_value_by_name(name)
                    .ok_or_else(|| S::Error::custom(format!("{name:?} is no {values:?}")))?;
                match enums {
                    Enums::Names => serializer.serialize_str(name),
                    Enums::Numbers => serializer.serialize_i32(value.number()),
                }
            }
            (Kind::Message(message), json) => match (message.full_name(), json) {
                ("google.protobuf.Value", _) | ("google.protobuf.Struct", Value::Object(_)) => {
                    json.serialize(serializer)
                }
                (name, Value::Object(json)) if !name.starts_with("google.protobuf.") => Message {
                    descriptor: message,
                    json,
                    enums: *enums,
                }
                .serialize(serializer),
                // Times, masks and the like are written as they are whatever they were.
                _ => schema::build(message.clone(), (*json).clone())
                    .and_then(|message| schema::to_json(&message))
                    .map_err(S::Error::custom)?
                    .serialize(serializer),
            },
            _ => Err(S::Error::custom(format!("{json} is no {kind:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DETECTED: [&str; 2] = [
        include_str!("../../detect/testdata/findings/added_library.json"),
        include_str!("../../detect/testdata/findings/modified_program.json"),
    ];

    fn finding() -> MessageDescriptor {
        schema::message("google.cloud.securitycenter.v2.Finding")
    }

    /// As read: numbers of any JSON are doubles in a message.
    fn read(bytes: &[u8]) -> Value {
        fn doubles(value: Value) -> Value {
            match value {
                Value::Number(number) => json!(number.as_f64()),
                Value::Array(values) => values.into_iter().map(doubles).collect(),
                Value::Object(members) => members
                    .into_iter()
                    .map(|(key, value)| (key, doubles(value)))
                    .collect(),
                value => value,
            }
        }
        doubles(serde_json::from_slice(bytes).unwrap())
    }

    fn check(message: &MessageDescriptor, json: &Value) {
        for enums in [Enums::Names, Enums::Numbers] {
            let direct = to_bytes(message.clone(), json, enums);
            let by_message = schema::build(message.clone(), json.clone())
                .and_then(|message| schema::to_bytes(&message, enums));
            match (direct, by_message) {
                (Ok(direct), Ok(by_message)) => {
                    assert_eq!(read(&direct), read(&by_message), "{json}");
                }
                (Err(_), Err(_)) => {}
                (direct, by_message) => panic!("{json}: {direct:?}, {by_message:?}"),
            }
        }
    }

    #[test]
    fn detected_findings_are_written_as_by_their_messages() {
        let results: Vec<Value> = DETECTED
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        assert!(results.iter().all(|result| result["finding"].is_object()));
        let list = schema::message("google.cloud.securitycenter.v2.ListFindingsResponse");
        let answer = json!({
            "listFindingsResults": results,
            "nextPageToken": "",
            "totalSize": 2,
        });
        let bytes = to_bytes(list.clone(), &answer, Enums::Names).unwrap();
        assert_eq!(
            read(&bytes)["listFindingsResults"][1]["finding"]["state"],
            "ACTIVE"
        );
        check(&list, &answer);
    }

    /// Every field of a finding with every kind of value, whether it takes it or not.
    #[test]
    fn whatever_a_field_holds_is_written_as_by_its_message() {
        let values = [
            json!(null),
            json!(""),
            json!("text"),
            json!("HIGH"),
            json!("0"),
            json!("-12"),
            json!("2026-01-01T00:00:00.5Z"),
            json!(0),
            json!(7),
            json!(1.5),
            json!(1_u64 << 40),
            json!(false),
            json!(true),
            json!([]),
            json!([null]),
            json!(["a", ""]),
            json!([{}]),
            json!([{"name": "n", "pid": 3, "envVariables": [{"name": "A"}], "unknown": 1}]),
            json!({}),
            json!({"key": null}),
            json!({"key": "text"}),
            json!({"key": {"name": "x"}}),
            json!({"name": "x", "ipAddresses": ["10.0.0.1"], "createTime": "2026-01-01T00:00:00Z"}),
        ];
        for field in finding().fields() {
            for value in &values {
                for name in [field.json_name(), field.name()] {
                    check(&finding(), &json!({name: value, "unknown": value}));
                }
            }
        }
    }
}
