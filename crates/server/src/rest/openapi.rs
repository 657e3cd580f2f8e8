//! The OpenAPI document of the REST side, made from the method table and the schema.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::route::{ROUTES, Route};
use crate::methods::Body;
use crate::schema;

/// The document.
pub(crate) fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES.iter() {
        let (path, parameters) = address(route);
        let operation = operation(route, parameters, &mut schemas);
        paths
            .entry(path)
            .or_default()
            .insert(route.http.verb.to_lowercase(), operation);
    }
    schemas.made.insert("Error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hullwatch findings center",
            "description": "Findings, sources, mute rules and notifications in the shape of Security Command Center v2.",
            "version": "v2",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.made,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token made by `hullwatch token create`.",
                },
            },
        },
    })
}

/// The path template of a route and its parameters, each named after the collection before it.
fn address(route: &Route) -> (String, Vec<Value>) {
    let mut path = "/v2".to_owned();
    let mut parameters = Vec::new();
    let mut collection = "";
    for segment in route.variable.iter().chain(&route.rest) {
        path.push('/');
        if *segment == "*" {
            let name = collection.strip_suffix('s').unwrap_or(collection);
            path.push_str(&format!("{{{name}}}"));
            parameters.push(json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"},
            }));
        } else {
            path.push_str(segment);
        }
        collection = segment;
    }
    if !route.custom.is_empty() {
        path.push_str(&format!(":{}", route.custom));
    }
    (path, parameters)
}

fn operation(route: &Route, mut parameters: Vec<Value>, schemas: &mut Schemas) -> Value {
    let method = route.method;
    let request = schema::message(&method.request());
    let bound = route.field.first().copied().unwrap_or_default();
    let body = match route.http.body {
        Body::None => None,
        Body::All => Some(schemas.reference(&request)),
        Body::Field(name) => request
            .get_field_by_name(name)
            .map(|field| schemas.value(&field)),
    };
    if route.http.body != Body::All {
        let in_body = match route.http.body {
            Body::Field(name) => name,
            Body::None | Body::All => "",
        };
        for field in request.fields() {
            if field.name() != bound && field.name() != in_body {
                parameters.push(json!({
                    "name": field.json_name(),
                    "in": "query",
                    "schema": schemas.value(&field),
                }));
            }
        }
    }
    parameters.push(json!({
        "name": "$alt",
        "in": "query",
        "schema": {"enum": ["json", "json;enum-encoding=int"]},
    }));
    // Unique, and stable when routes are added: the method with what its path names.
    let names: Vec<&str> = route
        .variable
        .iter()
        .copied()
        .filter(|segment| *segment != "*")
        .collect();
    let mut operation = json!({
        "operationId": format!("{}.{}", method.name, names.join(".")),
        "tags": [method.service],
        "description": format!("Takes the role {}.", method.role.name()),
        "parameters": parameters,
        "responses": {
            "200": {
                "description": method.response(),
                "content": json_content(&schemas.reference(&schema::message(&method.response()))),
            },
            "default": {
                "description": "What is wrong.",
                "content": json_content(&json!({"$ref": "#/components/schemas/Error"})),
            },
        },
    });
    if let Some(body) = body {
        operation["requestBody"] = json!({"content": json_content(&body)});
    }
    operation
}

fn json_content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "status"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "message": {"type": "string"},
                "status": {"type": "string", "description": "Name of the google.rpc.Code."},
                "details": {"type": "array", "items": {"type": "object"}},
            },
        }},
    })
}

/// JSON schemas of the messages that the operations use, by full name.
#[derive(Default)]
struct Schemas {
    made: BTreeMap<String, Value>,
}

impl Schemas {
    fn reference(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.full_name();
        match name {
            "google.protobuf.Timestamp" => return json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => {
                return json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"});
            }
            "google.protobuf.Value" => return json!({}),
            "google.protobuf.Empty" | "google.protobuf.Any" => return json!({"type": "object"}),
            "hullwatch.FieldMask" => {
                return json!({"type": "string", "description": "Fields, separated by commas."});
            }
            _ => {}
        }
        if !self.made.contains_key(name) {
            // Messages can contain themselves: the place is taken before their fields are looked at.
            self.made.insert(name.to_owned(), Value::Null);
            let properties: Map<String, Value> = message
                .fields()
                .map(|field| (field.json_name().to_owned(), self.value(&field)))
                .collect();
            let made =
                json!({"type": "object", "properties": properties, "additionalProperties": false});
            self.made.insert(name.to_owned(), made);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn value(&mut self, field: &FieldDescriptor) -> Value {
        if let Kind::Message(entry) = field.kind()
            && field.is_map()
        {
            let value = self.single(&entry.map_entry_value_field().kind());
            return json!({"type": "object", "additionalProperties": value});
        }
        let single = self.single(&field.kind());
        if field.is_list() {
            json!({"type": "array", "items": single})
        } else {
            single
        }
    }

    fn single(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => self.reference(message),
            Kind::Enum(names) => {
                let names: Vec<_> = names
                    .values()
                    .map(|value| value.name().to_owned())
                    .collect();
                json!({"type": "string", "enum": names})
            }
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,18}$"})
            }
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "pattern": "^[0-9]{1,19}$"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        }
    }
}
