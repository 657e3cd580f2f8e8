//! Changes over REST: findings, marks, tickets, and what is refused.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::auth::Role;

use crate::support::{SOURCE, Server, keys};

fn f0() -> String {
    format!("/v2/{SOURCE}/findings/f0")
}

#[tokio::test]
async fn a_finding_is_created_once_and_comes_back_as_sent() {
    let server = Server::empty();
    let path = format!("/v2/{SOURCE}/findings?findingId=abc1");
    // Numbers and names of enums, numbers as text, both spellings of a field, and messages that only SCC fills.
    let sent = json!({
        "state": 1,
        "severity": "HIGH",
        "category": "Mine",
        "resource_name": "//example.com/a",
        "eventTime": "2026-01-02T03:04:05.000000006Z",
        "sourceProperties": {"Key_1": {"deep": [1, "two", null]}},
        "vulnerability": {"cve": {"id": "CVE-2024-1", "cvssv3": {"baseScore": 9.5, "attackVector": 1}}},
        "processes": [{"name": "sh", "pid": "7", "parentPid": 1, "binary": {"path": "/bin/sh", "size": "12"}}],
        "iamBindings": [{"action": "ADD", "role": "r"}],
    });
    let created = server.ok("POST", &path, sent.clone()).await;
    assert_eq!(created["name"], format!("{SOURCE}/findings/abc1"));
    assert_eq!(created["resourceName"], "//example.com/a");
    assert_eq!(
        (&created["state"], &created["severity"]),
        (&json!("ACTIVE"), &json!("HIGH"))
    );
    assert_eq!(created["eventTime"], "2026-01-02T03:04:05.000000006Z");
    let cvss = &created["vulnerability"]["cve"]["cvssv3"];
    assert_eq!(
        *cvss,
        json!({"baseScore": 9.5, "attackVector": "ATTACK_VECTOR_NETWORK"})
    );
    assert_eq!(created["processes"][0]["pid"], "7");
    assert_eq!(created["processes"][0]["binary"]["size"], "12");
    assert_eq!(
        created["sourceProperties"]["Key_1"],
        json!({"deep": [1.0, "two", null]})
    );
    let list = server
        .ok(
            "GET",
            &format!("/v2/{SOURCE}/findings?$alt=json;enum-encoding=int"),
            Value::Null,
        )
        .await;
    let listed = &list["listFindingsResults"][0]["finding"];
    assert_eq!(
        (&listed["state"], &listed["severity"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(listed["iamBindings"][0]["action"], 1);
    assert_eq!(listed["vulnerability"]["cve"]["cvssv3"]["attackVector"], 1);
    let again = server.fails("POST", &path, sent).await;
    assert_eq!((again.0, again.1.as_str()), (409, "ALREADY_EXISTS"));
}

#[tokio::test]
async fn a_sender_cannot_say_what_only_the_server_says() {
    let server = Server::empty();
    let sent = json!({
        "category": "Mine",
        "canonicalName": "organizations/9/sources/9/locations/global/findings/other",
        "parentDisplayName": "Somebody Else",
        "contacts": {"security": {"contacts": [{"email": "a@b.test"}]}},
    });
    let check = |finding: Value, id: &str| {
        let name = format!("{SOURCE}/findings/{id}");
        assert_eq!(finding["canonicalName"], name);
        assert_eq!(finding["parentDisplayName"], Value::Null);
        assert_eq!(finding["contacts"], Value::Null);
        assert_eq!(finding["category"], "Mine");
    };
    let path = format!("/v2/{SOURCE}/findings?findingId=a");
    check(server.ok("POST", &path, sent.clone()).await, "a");
    let path = format!("/v2/{SOURCE}/findings/b");
    check(server.ok("PATCH", &path, sent).await, "b");
}

#[tokio::test]
async fn what_is_wrong_with_a_new_finding_is_said() {
    let server = Server::empty();
    let new = |id: &str| format!("/v2/{SOURCE}/findings?findingId={id}");
    for (path, body, code, said) in [
        (new(""), json!({}), 400, "finding_id"),
        (new("a-b"), json!({}), 400, "letters and digits"),
        (new("a%2Fb"), json!({}), 400, "letters and digits"),
        (new(&"a".repeat(33)), json!({}), 400, "letters and digits"),
        (new("a"), json!({"nope": 1}), 400, "nope"),
        (new("a"), json!({"state": "ASLEEP"}), 400, "ASLEEP"),
        (new("a"), json!({"category": 7}), 400, "invalid type"),
        (new("a"), json!([]), 400, "Root element must be a message"),
        (new("a"), json!({"eventTime": "yesterday"}), 400, "time"),
        (
            new("a"),
            json!({"eventTime": "2500-01-01T00:00:00Z"}),
            400,
            "in the future",
        ),
        (
            new("a"),
            json!({"externalUri": "javascript:alert(1)"}),
            400,
            "https",
        ),
        (new("a"), json!({"sourceProperties": {"1x": 1}}), 400, "1x"),
        (
            format!("{}&bogus=1", new("a")),
            json!({}),
            400,
            "Unknown name \"bogus\"",
        ),
        (
            format!("{}&$alt=proto", new("a")),
            json!({}),
            400,
            "$alt=proto",
        ),
        (
            "/v2/organizations/1/sources/77/findings?findingId=a".into(),
            json!({}),
            404,
            "sources/77",
        ),
        (
            "/v2/organizations/1/sources/-/findings?findingId=a".into(),
            json!({}),
            404,
            "sources/-",
        ),
        (
            "/v2/projects/1/sources/1/findings?findingId=a".into(),
            json!({}),
            404,
            "nothing at this address",
        ),
    ] {
        let (status, _, message) = server.fails("POST", &path, body.clone()).await;
        assert_eq!(status, code, "{path} {body}: {message}");
        assert!(message.contains(said), "{path} {body}: {message}");
    }
    assert_eq!(
        server
            .ok("GET", &format!("/v2/{SOURCE}/findings"), Value::Null)
            .await,
        json!({})
    );
}

#[tokio::test]
async fn what_was_listed_and_is_sent_back_keeps_its_resource() {
    let server = Server::with_findings(1);
    let in_project = "/v2/projects/p0/sources/-/findings";
    let listed = server.ok("GET", in_project, Value::Null).await;
    let (before, resource) = (
        &listed["listFindingsResults"][0]["finding"],
        &listed["listFindingsResults"][0]["resource"],
    );
    assert_eq!(resource["gcpMetadata"]["projectDisplayName"], "p0");
    let mut changed = before.clone();
    changed["severity"] = "LOW".into();
    let path = format!("/v2/{}", before["name"].as_str().unwrap());
    for mask in ["?updateMask=severity", ""] {
        let updated = server
            .ok("PATCH", &format!("{path}{mask}"), changed.clone())
            .await;
        assert_eq!(updated["severity"], "LOW");
        let after = server.ok("GET", in_project, Value::Null).await;
        assert_eq!(keys(&after), ["f0"], "{mask}");
        assert_eq!(after["listFindingsResults"][0]["resource"], *resource);
    }
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names() {
    let server = Server::with_findings(1);
    let masked = format!(
        "{}?updateMask=severity,source_properties.Kept,externalUri",
        f0()
    );
    let body = json!({
        "severity": 3,
        "description": "not in the mask",
        "externalUri": "https://example.com/",
        "sourceProperties": {"Kept": "yes", "Dropped": "no"},
    });
    let updated = server.ok("PATCH", &masked, body).await;
    assert_eq!(updated["severity"], "MEDIUM");
    assert_eq!(updated["externalUri"], "https://example.com/");
    assert_eq!(updated["description"], "finding 0");
    assert_eq!(updated["sourceProperties"]["Kept"], "yes");
    assert_eq!(updated["sourceProperties"]["Dropped"], Value::Null);
    // Named in the mask but not sent: taken away.
    let cleared = server
        .ok(
            "PATCH",
            &format!("{}?updateMask=external_uri", f0()),
            json!({}),
        )
        .await;
    assert_eq!(cleared["externalUri"], Value::Null);
    for (mask, said) in [
        ("nope", "nope"),
        ("severity.x", "severity.x"),
        ("processes.name", "processes.name"),
        ("category", "category"),
    ] {
        let path = format!("{}?updateMask={mask}", f0());
        let (status, code, message) = server
            .fails("PATCH", &path, json!({"category": "Other"}))
            .await;
        assert_eq!((status, code.as_str()), (400, "INVALID_ARGUMENT"), "{mask}");
        assert!(message.contains(said), "{message}");
    }
}

#[tokio::test]
async fn an_update_of_what_is_not_there_creates_it_unless_it_has_a_mask() {
    let server = Server::empty();
    let path = format!("/v2/{SOURCE}/findings/new1");
    let body = json!({"category": "Mine", "resourceName": "//example.com/a", "state": "ACTIVE"});
    let masked = server
        .fails("PATCH", &format!("{path}?updateMask=state"), body.clone())
        .await;
    assert_eq!(masked.0, 404);
    let created = server.ok("PATCH", &path, body).await;
    assert_eq!(created["category"], "Mine");
    assert!(created["createTime"].is_string());
    let (status, _, _) = server
        .fails(
            "PATCH",
            "/v2/projects/p/sources/1/findings/other",
            json!({"category": "Mine"}),
        )
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn state_and_mute_are_set_from_any_scope_and_stay() {
    let server = Server::with_findings(1);
    let seen = "projects/p0/sources/1/locations/global/findings/f0";
    let inactive = server
        .ok("POST", &format!("/v2/{seen}:setState"), json!({"state": 2}))
        .await;
    assert_eq!(
        (&inactive["name"], &inactive["state"]),
        (&json!(seen), &json!("INACTIVE"))
    );
    let muted = server
        .ok(
            "POST",
            &format!("{}:setMute", f0()),
            json!({"mute": "MUTED"}),
        )
        .await;
    assert_eq!(
        (&muted["mute"], &muted["state"]),
        (&json!("MUTED"), &json!("INACTIVE"))
    );
    assert!(
        muted["muteInitiator"].as_str().unwrap().contains("admin"),
        "{muted}"
    );
    server.store.record(&[crate::support::finding(0)]).unwrap();
    let list =
        format!("/v2/{SOURCE}/findings?filter=mute%3D%22MUTED%22%20AND%20state%3D%22INACTIVE%22");
    assert_eq!(keys(&server.ok("GET", &list, Value::Null).await), ["f0"]);
    for (verb, body) in [
        (":setState", json!({})),
        (":setState", json!({"state": 0})),
        (":setState", json!({"state": 9})),
        (":setMute", json!({"mute": "LOUD"})),
        (":setMute", json!({})),
    ] {
        let (status, code, _) = server
            .fails("POST", &format!("{}{verb}", f0()), body.clone())
            .await;
        assert_eq!(
            (status, code.as_str()),
            (400, "INVALID_ARGUMENT"),
            "{verb} {body}"
        );
    }
    let missing = format!("/v2/{SOURCE}/findings/none:setMute");
    assert_eq!(
        server.fails("POST", &missing, json!({"mute": 1})).await.0,
        404
    );
}

#[tokio::test]
async fn marks_and_tickets_are_edited_one_by_one_or_replaced() {
    let server = Server::with_findings(1);
    let marks = format!("{}/securityMarks", f0());
    let set = server
        .ok("PATCH", &marks, json!({"marks": {"Team": "red", "x": "1"}}))
        .await;
    assert_eq!(set["name"], format!("{SOURCE}/findings/f0/securityMarks"));
    let edited = server
        .ok(
            "PATCH",
            &format!("{marks}?updateMask=marks.team,marks.x"),
            json!({"marks": {"team": "blue"}}),
        )
        .await;
    assert_eq!(edited["marks"], json!({"team": "blue"}));
    let by_mark = format!("/v2/{SOURCE}/findings?filter=security_marks.marks.TEAM%3D%22blue%22");
    assert_eq!(keys(&server.ok("GET", &by_mark, Value::Null).await), ["f0"]);
    for body in [
        json!({"marks": {"a b": "1"}}),
        json!({"marks": {"a": ""}}),
        json!({"marks": {"a": "x".repeat(4097)}}),
    ] {
        assert_eq!(server.fails("PATCH", &marks, body).await.0, 400);
    }
    let ticket = format!("{}/externalSystems/jira", f0());
    let sent = json!({"externalUid": "J-1", "status": "OPEN", "assignees": ["a@example.com"], "ticketInfo": {"id": "J-1"}});
    let stored = server.ok("PATCH", &ticket, sent).await;
    assert_eq!(stored["ticketInfo"]["id"], "J-1");
    let closed = server
        .ok(
            "PATCH",
            &format!("{ticket}?updateMask=status"),
            json!({"status": "CLOSED", "externalUid": "other"}),
        )
        .await;
    assert_eq!(
        (&closed["status"], &closed["externalUid"]),
        (&json!("CLOSED"), &json!("J-1"))
    );
    let listed = server
        .ok("GET", &format!("/v2/{SOURCE}/findings"), Value::Null)
        .await;
    let systems = &listed["listFindingsResults"][0]["finding"]["externalSystems"];
    assert_eq!(systems["jira"]["status"], "CLOSED");
}

#[tokio::test]
async fn each_role_may_do_what_it_is_for() {
    let server = Server::with_findings(1);
    let source = "/v2/organizations/1/sources/1";
    let rule = json!({"filter": "category=\"x\"", "type": "STATIC"});
    let notify = json!({"streamingConfig": {"filter": ""}});
    let calls = [
        (
            Role::Viewer,
            "GET",
            format!("{source}/findings"),
            Value::Null,
        ),
        (
            Role::Viewer,
            "POST",
            format!("{source}/findings:group"),
            json!({"groupBy": "category"}),
        ),
        (
            Role::Viewer,
            "GET",
            "/v2/organizations/1/sources".into(),
            Value::Null,
        ),
        (
            Role::Viewer,
            "POST",
            format!("{source}:testIamPermissions"),
            json!({"permissions": []}),
        ),
        (
            Role::Editor,
            "POST",
            format!("{source}/findings/f0:setMute"),
            json!({"mute": 1}),
        ),
        (
            Role::Editor,
            "PATCH",
            format!("{source}/findings/f0"),
            json!({"severity": 1}),
        ),
        (
            Role::Editor,
            "POST",
            "/v2/organizations/1/findings:bulkMute".into(),
            json!({}),
        ),
        (
            Role::Editor,
            "POST",
            "/v2/organizations/1/muteConfigs?muteConfigId=r1".into(),
            rule,
        ),
        (
            Role::Admin,
            "POST",
            "/v2/organizations/1/locations/global/notificationConfigs?configId=n1".into(),
            notify,
        ),
        (
            Role::Admin,
            "POST",
            format!("{source}:getIamPolicy"),
            json!({}),
        ),
    ];
    for (least, verb, path, body) in calls {
        for role in Role::ALL {
            let (status, answer) = server.call_as(role, verb, &path, body.clone()).await;
            if role < least {
                assert_eq!(status, StatusCode::FORBIDDEN, "{role:?} {path}: {answer}");
                assert_eq!(answer["error"]["status"], "PERMISSION_DENIED");
            } else {
                // A second creation is a conflict, which is past the role.
                assert!(
                    matches!(status.as_u16(), 200 | 409),
                    "{role:?} {path}: {answer}"
                );
            }
        }
    }
    let tested = json!({"permissions": ["securitycenter.findings.list", "securitycenter.findings.setMute", "nope"]});
    let (_, allowed) = server
        .call_as(
            Role::Viewer,
            "POST",
            &format!("{source}:testIamPermissions"),
            tested,
        )
        .await;
    assert_eq!(
        allowed["permissions"],
        json!(["securitycenter.findings.list"])
    );
    let (status, _, message) = server
        .fails("POST", &format!("{source}:setIamPolicy"), json!({}))
        .await;
    assert_eq!(status, 400, "{message}");
}
