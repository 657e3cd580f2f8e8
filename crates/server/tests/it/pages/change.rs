//! Changes that are made on the pages, to one finding or to all that match.

use axum::http::StatusCode;
use model::finding::Mute;
use server::auth::Role;

use super::{csrf_of, form, page, send, sign_in};
use crate::support::{SOURCE, Server, finding};

#[tokio::test]
async fn a_change_is_made_by_whom_it_is_and_is_in_the_audit_log() {
    let server = Server::with_findings(2);
    let name = format!("{SOURCE}/findings/f1");
    let cookie = sign_in(&server, Role::Editor).await;
    let csrf = csrf_of(&send(&server, false, page("/findings", &cookie)).await.body);
    let fields = [
        ("csrf", csrf.as_str()),
        ("name", &name),
        ("action", "mute"),
        ("back", "/findings?q=a"),
    ];
    let done = send(&server, false, form("/findings/actions", &cookie, &fields)).await;
    assert_eq!(done.header("location"), "/findings?q=a&done=mute:1");
    assert_eq!(
        server.store.get(&name).unwrap().finding.mute,
        model::finding::Mute::Muted
    );
    let entry = server.store.audit_log(i64::MAX, 1).unwrap().remove(0);
    assert_eq!(
        (entry.who.as_str(), entry.target.as_str()),
        ("editor", name.as_str())
    );

    for (path, action, noted) in [
        ("actions", "unmute", "set mute"),
        ("actions", "inactive", "set state"),
        ("actions", "active", "set state"),
        ("actions", "mute", "set mute"),
        ("marks", "", "set marks"),
    ] {
        let fields = [
            ("csrf", csrf.as_str()),
            ("name", &name),
            ("action", action),
            ("key", "team"),
            ("value", "red"),
        ];
        let path = format!("/findings/{path}");
        let before = server.store.audit_log(i64::MAX, 1).unwrap().remove(0).id;
        send(&server, false, form(&path, &cookie, &fields)).await;
        let log = server.store.audit_log(i64::MAX, 2).unwrap();
        assert_eq!(
            (log[1].id, log[0].action.as_str()),
            (before, noted),
            "{path} {action}"
        );
        assert_eq!((&*log[0].who, &log[0].target), ("editor", &name));
    }

    let viewer = sign_in(&server, Role::Viewer).await;
    let csrf = csrf_of(&send(&server, false, page("/findings", &viewer)).await.body);
    let fields = [
        ("csrf", csrf.as_str()),
        ("name", &name),
        ("action", "unmute"),
    ];
    let refused = send(&server, false, form("/findings/actions", &viewer, &fields)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let foreign = [
        ("csrf", "0".repeat(64)),
        ("name", name.clone()),
        ("action", "unmute".to_owned()),
    ];
    let foreign: Vec<(&str, &str)> = foreign
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let refused = send(&server, false, form("/findings/actions", &cookie, &foreign)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(
        server.store.get(&name).unwrap().finding.mute,
        model::finding::Mute::Muted
    );
}

#[tokio::test]
async fn a_finding_that_is_gone_keeps_no_other_from_being_changed() {
    let server = Server::with_findings(3);
    let cookie = sign_in(&server, Role::Editor).await;
    let csrf = csrf_of(&send(&server, false, page("/findings", &cookie)).await.body);
    let name = |key| format!("{SOURCE}/findings/{key}");
    let [first, gone, last] = [name("f0"), name("gone"), name("f2")];
    let fields = [
        ("csrf", csrf.as_str()),
        ("action", "mute"),
        ("name", &first),
        ("name", &gone),
        ("name", &last),
    ];
    let answer = send(&server, false, form("/findings/actions", &cookie, &fields)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    for name in [first, last] {
        let finding = server.store.get(&name).unwrap().finding;
        assert_eq!(finding.mute, Mute::Muted, "{name}");
    }
    let shown = send(&server, false, page(answer.header("location"), &cookie)).await;
    let told = "2 findings muted. 1 was not there any more.";
    assert!(shown.body.contains(told), "{}", shown.body);
}

#[tokio::test]
async fn all_that_match_are_changed_but_none_that_came_later() {
    let server = Server::with_findings(120);
    let cookie = sign_in(&server, Role::Editor).await;
    let shown = send(
        &server,
        false,
        page("/findings?q=severity%3D%22LOW%22", &cookie),
    )
    .await;
    assert!(
        shown.body.contains("or all 60 that match"),
        "{}",
        shown.body
    );
    let csrf = csrf_of(&shown.body);
    let as_of = shown.body.split("id=\"as-of\" value=\"").nth(1).unwrap();
    let as_of = as_of.split('"').next().unwrap();
    server.store.record(&[finding(121)]).unwrap();
    let act = async |action: &str, q: &str| {
        let fields = [
            ("csrf", csrf.as_str()),
            ("action", action),
            ("matching", "1"),
            ("q", q),
            ("as_of", as_of),
            ("back", "/findings"),
        ];
        send(&server, false, form("/findings/actions", &cookie, &fields)).await
    };
    let count = |filter: &str| server.store.ids("", filter).unwrap().len();
    let low = "severity=\"LOW\"";
    let done = act("mute", low).await;
    assert_eq!(done.header("location"), "/findings?done=mute:60");
    assert_eq!(count("mute=\"MUTED\""), 60);
    let done = act("unmute", "mute=\"MUTED\" AND NOT resource.type=\"x\"").await;
    assert_eq!(done.header("location"), "/findings?done=unmute:60");
    let done = act("inactive", low).await;
    assert_eq!(done.header("location"), "/findings?done=inactive:60");
    assert_eq!(count("state=\"INACTIVE\""), 60);
    // Each of them has it in its history.
    let name = format!("{SOURCE}/findings/f1");
    let log = server.store.audit_log_of(&name, 9).unwrap();
    assert_eq!(log[0].action, "set state");
    // A query that is wrong is not one without conditions, and cannot leave its place.
    for wrong in ["severity=", "severity=\"LOW\") OR (severity=\"CRITICAL\""] {
        let refused = act("inactive", wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(count("state=\"INACTIVE\""), 60);
    assert_eq!(
        act("inactive", "").await.header("location"),
        "/findings?done=inactive:120"
    );
}

#[tokio::test]
async fn more_than_can_be_changed_together_are_refused() {
    let server = Server::with_findings(5001);
    let cookie = sign_in(&server, Role::Editor).await;
    let shown = send(&server, false, page("/findings?q=", &cookie)).await;
    assert!(!shown.body.contains("that match</label>"));
    let fields = [
        ("csrf", csrf_of(&shown.body)),
        ("action", "mute".to_owned()),
        ("matching", "1".to_owned()),
        ("as_of", "2100-01-01T00:00:00Z".to_owned()),
    ];
    let fields: Vec<_> = fields
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let refused = send(&server, false, form("/findings/actions", &cookie, &fields)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(server.store.ids("", "mute=\"MUTED\"").unwrap().is_empty());
}

#[tokio::test]
async fn a_bulk_mute_is_among_the_changes_of_each_finding() {
    let server = Server::with_findings(2);
    let now = std::time::SystemTime::now().into();
    let change = store::Change { who: "ada", now };
    server
        .store
        .bulk_mute("", "", Mute::Muted, change, |_| true)
        .unwrap();
    let cookie = sign_in(&server, Role::Viewer).await;
    let path = format!("/finding/{SOURCE}/findings/f1");
    let changes = async || {
        let body = send(&server, false, page(&path, &cookie)).await.body;
        let list = body.split("id=\"changes\"").nth(1).unwrap().to_owned();
        list.split("</ul>").next().unwrap().to_owned()
    };
    let one = changes().await;
    assert!(
        one.contains("set mute to") && one.contains("by ada"),
        "{one}"
    );
    // One that is in the audit log is there once.
    let name = format!("{SOURCE}/findings/f1");
    let later = store::Change {
        who: "bob",
        now: now.plus_ns(1),
    };
    server.store.set_mute(&name, Mute::Unmuted, later).unwrap();
    let two = changes().await;
    assert_eq!(two.matches("<li>").count(), 1, "{two}");
    assert!(two.contains("by bob"), "{two}");
}
