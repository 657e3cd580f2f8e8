//! The OpenAPI document.

use std::path::Path;

use serde_json::Value;

use crate::support::Server;

#[tokio::test]
async fn the_document_is_the_committed_one() {
    let served = Server::empty()
        .ok("GET", "/openapi.json", Value::Null)
        .await;
    let text = format!("{served:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == text,
        "the REST side changed: run the test with UPDATE_EXPECT=1 and read the difference"
    );
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own() {
    let served = Server::empty()
        .ok("GET", "/openapi.json", Value::Null)
        .await;
    let mut names: Vec<&str> = served["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(all > 60, "{all} operations");
}
