//! Findings over REST.

use serde_json::{Value, json};

use crate::support::{SOURCE, Server, keys};

#[tokio::test]
async fn a_list_has_pages_that_stay_valid_while_findings_arrive() {
    let server = Server::with_findings(5);
    let list = format!("/v2/{SOURCE}/findings?pageSize=2&orderBy=event_time");
    let first = server.ok("GET", &list, Value::Null).await;
    assert_eq!(keys(&first), ["f0", "f1"]);
    assert_eq!(first["totalSize"], 5);
    server.store.record(&[crate::support::finding(9)]).unwrap();
    let mut seen = keys(&first).join(" ");
    let mut token = first["nextPageToken"].as_str().unwrap().to_owned();
    while !token.is_empty() {
        let page = server
            .ok("GET", &format!("{list}&pageToken={token}"), Value::Null)
            .await;
        seen = format!("{seen} {}", keys(&page).join(" "));
        token = page["nextPageToken"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    assert_eq!(seen, "f0 f1 f2 f3 f4 f9");
}

#[tokio::test]
async fn a_list_is_filtered_masked_and_seen_from_any_scope() {
    let server = Server::with_findings(4);
    let listed = server
        .ok(
            "GET",
            "/v2/projects/p1/sources/-/findings?filter=severity%3D%22LOW%22&fieldMask=name,resourceName,parent",
            Value::Null,
        )
        .await;
    let finding = &listed["listFindingsResults"][0]["finding"];
    assert_eq!(
        *finding,
        json!({
            "name": "projects/p1/sources/1/locations/global/findings/f3",
            "parent": "projects/p1/sources/1/locations/global",
            "resourceName": "//run.googleapis.com/projects/p1/locations/l/services/s",
        })
    );
    assert_eq!(keys(&listed), ["f3", "f1"]);
}
