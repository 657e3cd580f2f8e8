//! Sources, mute configs, notification configs and operations over REST.

use serde_json::{Value, json};

use crate::support::{SOURCE, Server, finished, keys};

const GLOBAL: &str = "/v2/organizations/1/locations/global";

#[tokio::test]
async fn sources_are_made_read_and_renamed() {
    let server = Server::empty();
    let created = server
        .ok(
            "POST",
            "/v2/organizations/1/sources",
            json!({"displayName": "Mine", "description": "d"}),
        )
        .await;
    let name = created["name"].as_str().unwrap();
    let renamed = server
        .ok(
            "PATCH",
            &format!("/v2/{name}?updateMask=display_name"),
            json!({"displayName": "Ours", "description": "x"}),
        )
        .await;
    assert_eq!(
        (&renamed["displayName"], &renamed["description"]),
        (&json!("Ours"), &json!("d"))
    );
    assert_eq!(
        server.ok("GET", &format!("/v2/{name}"), Value::Null).await,
        renamed
    );
    // No two have one name; its own is no other's, and what the mask leaves out is no new name.
    let taken = json!({"displayName": "Hullwatch", "description": "e"});
    for mask in ["", "?updateMask=displayName", "?updateMask=*"] {
        let path = format!("/v2/{name}{mask}");
        let refused = server.fails("PATCH", &path, taken.clone()).await;
        assert_eq!((refused.0, refused.1.as_str()), (409, "ALREADY_EXISTS"));
    }
    let path = format!("/v2/{name}?updateMask=description");
    assert_eq!(
        server.ok("PATCH", &path, taken).await["displayName"],
        "Ours"
    );
    let own = json!({"displayName": "Ours", "description": "d"});
    server.ok("PATCH", &format!("/v2/{name}"), own).await;
    let listed = server
        .ok("GET", "/v2/organizations/1/sources?pageSize=1", Value::Null)
        .await;
    assert_eq!(listed["sources"].as_array().unwrap().len(), 1);
    let token = listed["nextPageToken"].as_str().unwrap();
    let rest = server
        .ok(
            "GET",
            &format!("/v2/organizations/1/sources?pageSize=1&pageToken={token}"),
            Value::Null,
        )
        .await;
    let mut names = vec![
        &listed["sources"][0]["displayName"],
        &rest["sources"][0]["displayName"],
    ];
    names.sort_by_key(|name| name.as_str());
    assert_eq!(names, [&json!("Hullwatch"), &json!("Ours")]);
    let of_project = server
        .ok("GET", "/v2/projects/p/sources", Value::Null)
        .await;
    assert!(
        of_project["sources"][0]["name"]
            .as_str()
            .unwrap()
            .starts_with("projects/p/sources/")
    );
    let taken = server
        .fails(
            "POST",
            "/v2/organizations/1/sources",
            json!({"displayName": "Ours"}),
        )
        .await;
    assert_eq!(taken.0, 409);
    for body in [json!({}), json!({"displayName": "x".repeat(65)})] {
        assert_eq!(
            server
                .fails("POST", "/v2/organizations/1/sources", body)
                .await
                .0,
            400
        );
    }
    assert_eq!(
        server
            .fails("GET", "/v2/organizations/1/sources/9", Value::Null)
            .await
            .0,
        404
    );
    let policy = server
        .ok(
            "POST",
            "/v2/organizations/1/sources/1:getIamPolicy",
            json!({}),
        )
        .await;
    let roles: Vec<_> = policy["bindings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|binding| &binding["role"])
        .collect();
    assert_eq!(roles.len(), 3, "{policy}");
}

#[tokio::test]
async fn a_dynamic_rule_mutes_while_it_matches() {
    let server = Server::with_findings(4);
    let rule = json!({"filter": "severity=\"LOW\"", "type": "DYNAMIC", "description": "noise"});
    let made = server
        .ok(
            "POST",
            "/v2/organizations/1/muteConfigs?muteConfigId=low-noise",
            rule,
        )
        .await;
    assert_eq!(
        made["name"],
        "organizations/1/locations/global/muteConfigs/low-noise"
    );
    assert_eq!(made["mostRecentEditor"], "admin");
    let muted = format!("/v2/{SOURCE}/findings?filter=mute%3D%22MUTED%22&orderBy=name");
    assert_eq!(
        keys(&server.ok("GET", &muted, Value::Null).await),
        ["f1", "f3"]
    );
    let path = format!("{GLOBAL}/muteConfigs/low-noise");
    let changed = server
        .ok(
            "PATCH",
            &format!("{path}?updateMask=filter"),
            json!({"filter": "severity=\"CRITICAL\"", "description": "no"}),
        )
        .await;
    assert_eq!(changed["description"], "noise");
    assert_eq!(
        keys(&server.ok("GET", &muted, Value::Null).await),
        ["f0", "f2"]
    );
    assert_eq!(
        server
            .ok("GET", &format!("{GLOBAL}/muteConfigs"), Value::Null)
            .await["muteConfigs"],
        json!([changed])
    );
    assert_eq!(server.ok("DELETE", &path, Value::Null).await, json!({}));
    assert_eq!(server.ok("GET", &muted, Value::Null).await, json!({}));
    assert_eq!(server.fails("GET", &path, Value::Null).await.0, 404);
    assert_eq!(server.fails("DELETE", &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_rule_is_said() {
    let server = Server::empty();
    let good = json!({"filter": "severity=\"LOW\"", "type": "STATIC"});
    for (id, body, said) in [
        ("", good.clone(), "mute_config_id"),
        ("Upper", good.clone(), "mute_config_id"),
        ("1a", good.clone(), "mute_config_id"),
        ("a", json!({"type": "STATIC"}), "filter"),
        ("a", json!({"filter": "severity=\"LOW\""}), "type"),
        ("a", json!({"filter": "severity=", "type": 1}), "position 9"),
        ("a", json!({"filter": "mute=\"MUTED\"", "type": 2}), "mute"),
        (
            "a",
            json!({"filter": "severity=\"LOW\"", "type": 1, "expiryTime": "2030-01-01T00:00:00Z"}),
            "expire",
        ),
    ] {
        let path = format!("/v2/organizations/1/muteConfigs?muteConfigId={id}");
        let (status, code, message) = server.fails("POST", &path, body.clone()).await;
        assert_eq!(
            (status, code.as_str()),
            (400, "INVALID_ARGUMENT"),
            "{id} {body}: {message}"
        );
        assert!(message.contains(said), "{id} {body}: {message}");
    }
    server
        .ok(
            "POST",
            "/v2/organizations/1/muteConfigs?muteConfigId=a",
            good.clone(),
        )
        .await;
    assert_eq!(
        server
            .fails(
                "POST",
                "/v2/organizations/1/muteConfigs?muteConfigId=a",
                good
            )
            .await
            .0,
        409
    );
    for mask in ["type", "name", "nope", "create_time"] {
        let path = format!("{GLOBAL}/muteConfigs/a?updateMask={mask}");
        assert_eq!(
            server
                .fails("PATCH", &path, json!({"type": "DYNAMIC"}))
                .await
                .0,
            400,
            "{mask}"
        );
    }
}

#[tokio::test]
async fn notification_configs_are_kept() {
    let server = Server::empty();
    let sent = json!({"description": "d", "pubsubTopic": "projects/p/topics/t", "streamingConfig": {"filter": "state=\"ACTIVE\""}});
    let made = server
        .ok(
            "POST",
            &format!("{GLOBAL}/notificationConfigs?configId=A_1"),
            sent.clone(),
        )
        .await;
    assert_eq!(made["streamingConfig"], sent["streamingConfig"]);
    let path = format!("{GLOBAL}/notificationConfigs/A_1");
    let changed = server
        .ok(
            "PATCH",
            &format!("{path}?updateMask=streamingConfig.filter"),
            json!({"streamingConfig": {"filter": ""}, "description": "x"}),
        )
        .await;
    assert_eq!(
        (&changed["description"], &changed["streamingConfig"]),
        (&json!("d"), &json!({}))
    );
    let listed = server
        .ok("GET", &format!("{GLOBAL}/notificationConfigs"), Value::Null)
        .await;
    assert_eq!(listed["notificationConfigs"], json!([changed]));
    assert_eq!(server.ok("DELETE", &path, Value::Null).await, json!({}));
    assert_eq!(server.fails("GET", &path, Value::Null).await.0, 404);
    for (id, body) in [
        ("a.b", sent),
        ("a", json!({"streamingConfig": {"filter": "x y z"}})),
    ] {
        let path = format!("{GLOBAL}/notificationConfigs?configId={id}");
        assert_eq!(server.fails("POST", &path, body).await.0, 400, "{id}");
    }
}

#[tokio::test]
async fn a_bulk_mute_is_an_operation() {
    let server = Server::with_findings(4);
    let started = server
        .ok(
            "POST",
            "/v2/organizations/1/findings:bulkMute",
            json!({"filter": "severity=\"LOW\""}),
        )
        .await;
    let done = finished(&server, &started).await;
    let of = "type.googleapis.com/google.cloud.securitycenter.v2.BulkMuteFindingsResponse";
    assert_eq!(done["response"], json!({"@type": of}), "{done}");
    let muted = format!("/v2/{SOURCE}/findings?filter=mute%3D%22MUTED%22&orderBy=name");
    assert_eq!(
        keys(&server.ok("GET", &muted, Value::Null).await),
        ["f1", "f3"]
    );
    let body = json!({"filter": "severity=\"LOW\"", "muteState": "UNDEFINED"});
    let back = server
        .ok(
            "POST",
            "/v2/projects/p1/locations/global/findings:bulkMute",
            body,
        )
        .await;
    assert!(
        back["name"]
            .as_str()
            .unwrap()
            .starts_with("projects/p1/operations/")
    );
    finished(&server, &back).await;
    assert_eq!(server.ok("GET", &muted, Value::Null).await, json!({}));
    let listed = server
        .ok("GET", "/v2/organizations/1/operations", Value::Null)
        .await;
    assert_eq!(listed["operations"], json!([done]));
    let name = done["name"].as_str().unwrap();
    assert_eq!(
        server
            .ok("POST", &format!("/v2/{name}:cancel"), json!({}))
            .await,
        json!({})
    );
    assert_eq!(
        server
            .ok("DELETE", &format!("/v2/{name}"), Value::Null)
            .await,
        json!({})
    );
    assert_eq!(
        server
            .fails("GET", &format!("/v2/{name}"), Value::Null)
            .await
            .0,
        404
    );
    let wrong = server
        .fails(
            "POST",
            "/v2/organizations/1/findings:bulkMute",
            json!({"filter": "a b"}),
        )
        .await;
    assert_eq!((wrong.0, wrong.1.as_str()), (400, "INVALID_ARGUMENT"));
}

#[tokio::test]
async fn an_operation_that_a_restart_cut_off_has_failed() {
    let server = Server::empty();
    let left = store::Operation {
        name: "organizations/1/operations/left".to_owned(),
        ..store::Operation::default()
    };
    let change = store::Change {
        who: "test",
        now: model::Timestamp(1),
    };
    server.store.create(&left, change).unwrap();
    // Another process works on it.
    let lock = server.store.lock_operation(&left.name).unwrap();
    assert!(lock.is_some());
    let server = server.restarted();
    let found = server
        .ok("GET", "/v2/organizations/1/operations/left", Value::Null)
        .await;
    assert_eq!(found["done"], Value::Null, "{found}");
    // Now it has ended, in whatever way.
    drop(lock);
    let server = server.restarted();
    let found = server
        .ok("GET", "/v2/organizations/1/operations/left", Value::Null)
        .await;
    assert_eq!(
        (&found["done"], &found["error"]["code"]),
        (&json!(true), &json!(10))
    );
}

#[tokio::test]
async fn bulk_mute_without_location_is_of_global() {
    let server = Server::with_findings(1);
    let elsewhere = "organizations/1/sources/1/locations/eu";
    server
        .ok(
            "POST",
            &format!("/v2/{elsewhere}/findings?findingId=e1"),
            json!({"category": "c", "resourceName": "//r"}),
        )
        .await;
    let mute = async |path: &str| {
        let operation = server
            .ok("POST", &format!("/v2/{path}/findings:bulkMute"), json!({}))
            .await;
        finished(&server, &operation).await;
        let muted = "/v2/organizations/1/sources/-/locations/-/findings?filter=mute%3D%22MUTED%22&orderBy=name";
        let list = server.ok("GET", muted, Value::Null).await;
        keys(&list).join(" ")
    };
    assert_eq!(mute("organizations/1").await, "f0");
    let both = mute("organizations/1/locations/eu").await;
    assert_eq!(both.split(' ').count(), 2, "{both}");
}

/// What changes nothing, or refuses to.
const READING: [&str; 4] = [
    "GroupFindings",
    "GetIamPolicy",
    "SetIamPolicy",
    "TestIamPermissions",
];

/// Every method that changes something: how it is called, and what it is in the audit log.
fn changes(operation: &str) -> Vec<(&'static str, &'static str, String, Value, &'static str)> {
    let finding = format!("/v2/{SOURCE}/findings/f0");
    let of = |path: &str| format!("/v2/organizations/1/{path}");
    let rule = json!({"filter": "state=\"ACTIVE\"", "type": "STATIC"});
    vec![
        (
            "CreateFinding",
            "POST",
            format!("/v2/{SOURCE}/findings?findingId=new"),
            json!({"category": "c", "resourceName": "//r"}),
            "create finding",
        ),
        (
            "UpdateFinding",
            "PATCH",
            format!("{finding}?updateMask=severity"),
            json!({"severity": "MEDIUM"}),
            "update finding",
        ),
        (
            "SetFindingState",
            "POST",
            format!("{finding}:setState"),
            json!({"state": "INACTIVE"}),
            "set state",
        ),
        (
            "SetMute",
            "POST",
            format!("{finding}:setMute"),
            json!({"mute": "MUTED"}),
            "set mute",
        ),
        (
            "UpdateSecurityMarks",
            "PATCH",
            format!("{finding}/securityMarks"),
            json!({"marks": {"a": "b"}}),
            "set marks",
        ),
        (
            "UpdateExternalSystem",
            "PATCH",
            format!("{finding}/externalSystems/jira"),
            json!({"status": "open"}),
            "set external system",
        ),
        (
            "BulkMuteFindings",
            "POST",
            of("findings:bulkMute"),
            json!({}),
            "bulk mute",
        ),
        (
            "CreateSource",
            "POST",
            of("sources"),
            json!({"displayName": "Mine"}),
            "create sources",
        ),
        (
            "UpdateSource",
            "PATCH",
            of("sources/1?updateMask=description"),
            json!({"description": "d"}),
            "update sources",
        ),
        (
            "CreateMuteConfig",
            "POST",
            of("muteConfigs?muteConfigId=m"),
            rule.clone(),
            "create muteConfigs",
        ),
        (
            "UpdateMuteConfig",
            "PATCH",
            of("muteConfigs/m"),
            rule,
            "update muteConfigs",
        ),
        (
            "DeleteMuteConfig",
            "DELETE",
            of("muteConfigs/m"),
            Value::Null,
            "delete muteConfigs",
        ),
        (
            "CreateNotificationConfig",
            "POST",
            of("locations/global/notificationConfigs?configId=n"),
            json!({}),
            "create notificationConfigs",
        ),
        (
            "UpdateNotificationConfig",
            "PATCH",
            of("locations/global/notificationConfigs/n"),
            json!({"description": "d"}),
            "update notificationConfigs",
        ),
        (
            "DeleteNotificationConfig",
            "DELETE",
            of("locations/global/notificationConfigs/n"),
            Value::Null,
            "delete notificationConfigs",
        ),
        (
            "CancelOperation",
            "POST",
            format!("/v2/{operation}:cancel"),
            json!({}),
            "cancel operations",
        ),
        (
            "DeleteOperation",
            "DELETE",
            format!("/v2/{operation}"),
            Value::Null,
            "delete operations",
        ),
    ]
}

#[tokio::test]
async fn every_change_is_in_the_audit_log() {
    let server = Server::with_findings(1);
    // Those that the document has are those that are tried.
    let document = server.ok("GET", "/openapi.json", Value::Null).await;
    let mut described: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap())
        .filter(|(verb, _)| *verb != "get")
        .map(|(_, operation)| operation["operationId"].as_str().unwrap())
        .map(|id| id.split('.').next().unwrap())
        .filter(|method| !READING.contains(method))
        .collect();
    described.sort_unstable();
    described.dedup();
    let mut tried: Vec<&str> = changes("").iter().map(|change| change.0).collect();
    tried.sort_unstable();
    assert_eq!(described, tried);

    let mut operation = String::new();
    for at in 0..tried.len() {
        let (method, verb, path, body, action) = changes(&operation).swap_remove(at);
        let newest = |log: Vec<store::AuditEntry>| log.first().map_or(0, |entry| entry.id);
        let before = newest(server.store.audit_log(i64::MAX, 1).unwrap());
        let answer = server.ok(verb, &path, body).await;
        if method == "BulkMuteFindings" {
            finished(&server, &answer).await;
            operation = answer["name"].as_str().unwrap().to_owned();
        }
        let log = server.store.audit_log(i64::MAX, 20).unwrap();
        let new: Vec<_> = log.iter().filter(|entry| entry.id > before).collect();
        if method == "CancelOperation" {
            // It has ended, so nothing is changed. That of one under way is tested where the flag can be seen.
            assert!(new.is_empty(), "{new:?}");
            continue;
        }
        assert!(
            new.iter()
                .any(|entry| entry.who == "admin" && entry.action == action),
            "{method}: {new:?}"
        );
    }
}
