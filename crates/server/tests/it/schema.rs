//! The compiled schema is that of the declarations, and filters know its fields.

use std::path::Path;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

#[test]
fn schema_is_compiled_from_its_declarations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(root.join("proto"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let compiled = protox::Compiler::new([root.join("proto")])
        .unwrap()
        .include_imports(true)
        .open_files(files)
        .unwrap()
        .encode_file_descriptor_set();
    let path = root.join("src/schema.binpb");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &compiled).unwrap();
    }
    assert!(
        std::fs::read(&path).unwrap() == compiled,
        "proto/ changed: run the test with UPDATE_EXPECT=1"
    );
}

/// A path of every field that is no message, each key of a map as `key`.
fn paths(
    message: &MessageDescriptor,
    path: &str,
    within: &[String],
) -> Vec<(String, FieldDescriptor)> {
    let mut found = Vec::new();
    for field in message.fields() {
        let mut path = format!("{path}{}", field.json_name());
        let mut leaf = field.clone();
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            path += ".key";
            leaf = entry.map_entry_value_field();
        }
        match leaf.kind() {
            Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                let name = inner.full_name().to_owned();
                // A message within itself has no end.
                if !within.contains(&name) {
                    let within = [within, &[name]].concat();
                    found.extend(paths(&inner, &format!("{path}."), &within));
                }
            }
            _ => found.push((path, leaf)),
        }
    }
    found
}

#[test]
fn every_field_of_a_finding_can_be_filtered_by() {
    let pool = DescriptorPool::decode(include_bytes!("../../src/schema.binpb").as_slice()).unwrap();
    let message = |name: &str| {
        let name = format!("google.cloud.securitycenter.v2.{name}");
        pool.get_message_by_name(&name).unwrap()
    };
    let mut all = paths(&message("Finding"), "", &[]);
    all.extend(paths(
        &message("ListFindingsResponse.ListFindingsResult.Resource"),
        "resource.",
        &[],
    ));
    assert!(all.len() > 200, "{}", all.len());
    let mut refused = Vec::new();
    for (path, field) in all {
        let comparison = match field.kind() {
            _ if path == "name" => "=\"organizations/1/sources/1/findings/a\"",
            Kind::Message(time) if time.full_name() == "google.protobuf.Timestamp" => {
                ">\"2026-03-01T12:00:00Z\""
            }
            Kind::Bool => "=false",
            Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Float => ">=7",
            _ => ":*",
        };
        if let Err(error) = store::filter::check(&format!("{path}{comparison}")) {
            refused.push(error.to_string());
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}
