//! Findings as files and as JSON.

use model::finding::File;
use serde_json::Value;
use server::auth::Role;

use super::{page, send, sign_in};
use crate::support::{SOURCE, Server, finding};

#[tokio::test]
async fn an_export_has_every_finding_over_all_pages() {
    let server = Server::with_findings(2500);
    let cookie = sign_in(&server, Role::Viewer).await;
    let csv = send(&server, false, page("/findings/export.csv?q=", &cookie)).await;
    assert_eq!(csv.body.lines().count(), 2501);
    // In the order and with the columns of the table.
    let path = "/findings/export.csv?q=&order=severity,event_time&col=severity";
    let csv = send(&server, false, page(path, &cookie)).await.body;
    let lines: Vec<&str> = csv.lines().take(2).collect();
    let first = format!("\"{SOURCE}/findings/f0\",\"Reverse Shell\",\"CRITICAL\"");
    assert_eq!(lines, ["name,category,severity", first.as_str()]);
    assert_eq!(csv.lines().count(), 2501);
    let json = send(&server, false, page("/findings/export.json?q=", &cookie)).await;
    let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(json["listFindingsResults"].as_array().unwrap().len(), 2500);
}

#[tokio::test]
async fn an_export_of_large_findings_has_every_one_too() {
    let server = Server::empty();
    let large = |number| {
        let mut result = finding(number);
        result.finding.description = "x".repeat(1_000_000);
        result
    };
    server
        .store
        .record(&(0..20).map(large).collect::<Vec<_>>())
        .unwrap();
    // In more than one piece, although they are few.
    let ids = server.store.ids("", "").unwrap();
    let (first, taken) = server.store.findings(&ids).unwrap();
    assert_eq!((first.len(), taken), (9, 9));
    let cookie = sign_in(&server, Role::Viewer).await;
    let csv = send(&server, false, page("/findings/export.csv?q=", &cookie)).await;
    assert_eq!(csv.body.lines().count(), 21);
}

#[tokio::test]
async fn the_json_tab_and_the_export_have_the_object_of_the_api() {
    let server = Server::empty();
    let mut result = finding(1);
    result.finding.files = vec![File {
        path: "/tmp/x".to_owned(),
        // Kept, but newer than the published messages.
        file_load_state: "LOADED_BY_PROCESS".to_owned(),
        ..File::default()
    }];
    server.store.record(&[result]).unwrap();
    let of_api = server
        .ok("GET", &format!("/v2/{SOURCE}/findings"), Value::Null)
        .await;
    let of_api = &of_api["listFindingsResults"][0];
    let cookie = sign_in(&server, Role::Viewer).await;
    let read = async |path: &str| -> Value {
        let body = send(&server, false, page(path, &cookie)).await.body;
        serde_json::from_str(&body).unwrap()
    };
    let raw = read(&format!("/finding/{SOURCE}/findings/f1?tab=raw")).await;
    assert_eq!(&raw, of_api);
    let export = read("/findings/export.json?q=").await;
    assert_eq!(&export["listFindingsResults"][0], of_api);
}
