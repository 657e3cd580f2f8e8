//! The review page over HTTP, without a browser: headers, cookies, redirects, and that text stays text.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use model::finding::{File, FindingClass, Mute, Severity, State};
use serde_json::Value;
use server::auth::{Role, create_token, login_link, revoke_token};
use server::web::Pages;
use tower::ServiceExt;

use crate::support::{SOURCE, Server, finding};

/// An answer as it came.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

async fn send(server: &Server, tls: bool, request: Request<Body>) -> Answer {
    let pages = Pages {
        tls,
        ..Pages::default()
    };
    let response = server::router::router(server.app.clone(), pages)
        .oneshot(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn form(path: &str, cookie: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    Request::post(path)
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish().into())
        .unwrap()
}

fn page(path: &str, cookie: &str) -> Request<Body> {
    Request::get(path)
        .header("cookie", cookie)
        .body(Body::empty())
        .unwrap()
}

/// Signs in; the cookie.
async fn sign_in(server: &Server, role: Role) -> String {
    let answer = send(
        server,
        false,
        form(
            "/login",
            "",
            &[("token", server.token(role)), ("next", "/coverage")],
        ),
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (StatusCode::SEE_OTHER, "/coverage")
    );
    answer
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned()
}

fn csrf_of(body: &str) -> String {
    let rest = body.split("name=\"csrf\" value=\"").nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_page_has_the_policy_and_stays_in_no_cache() {
    let server = Server::with_findings(3);
    let cookie = sign_in(&server, Role::Viewer).await;
    let finding = format!("/finding/{SOURCE}/findings/f1");
    for path in [
        "/findings",
        "/index",
        "/index?view=matrix",
        "/coverage",
        "/audit",
        "/login",
        finding.as_str(),
        "/finding/none",
    ] {
        let answer = send(&server, false, page(path, &cookie)).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(
            !answer.body.contains(" style=")
                && !answer.body.contains("<style")
                && !answer.body.contains(" onclick=")
        );
    }
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let server = Server::empty();
    let fields = [("token", server.token(Role::Viewer))];
    let plain = send(&server, false, form("/login", "", &fields)).await;
    assert!(
        plain
            .header("set-cookie")
            .ends_with("; Path=/; HttpOnly; SameSite=Strict")
    );
    let tls = send(&server, true, form("/login", "", &fields)).await;
    let cookie = tls.header("set-cookie");
    assert!(
        cookie.starts_with("__Host-") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    let far = send(
        &server,
        false,
        form("/login", "", &[fields[0], ("next", "//evil.test/")]),
    )
    .await;
    assert_eq!(far.header("location"), "/findings");
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down() {
    let server = Server::empty();
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(
            send(&server, false, form("/login", "", &[("token", "hw_0_0")]))
                .await
                .status,
        );
    }
    assert_eq!(statuses[0], StatusCode::UNAUTHORIZED);
    assert_eq!(statuses[39], StatusCode::TOO_MANY_REQUESTS);
    // Who has a token is let in all the same.
    sign_in(&server, Role::Viewer).await;
}

/// Leads from the page to the login page, as for one who is not signed in.
async fn is_out(server: &Server, cookie: &str) -> bool {
    let answer = send(server, false, page("/coverage", cookie)).await;
    match answer.status {
        StatusCode::OK => false,
        StatusCode::SEE_OTHER => answer.header("location").starts_with("/login?next="),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_or_a_session_that_ended_opens_nothing() {
    let server = Server::empty();
    let cookie = sign_in(&server, Role::Editor).await;
    let coverage = send(&server, false, page("/coverage", &cookie)).await;
    let csrf = csrf_of(&coverage.body);
    let out = send(&server, false, form("/logout", &cookie, &[("csrf", &csrf)])).await;
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert!(is_out(&server, &cookie).await);

    // What a token opened ends with it: sessions, also through a link, and links not yet used.
    let token = create_token(&server.store, "gone", Role::Editor).unwrap();
    let used = login_link(&server.store, &token).unwrap();
    let unused = login_link(&server.store, &token).unwrap();
    let open = async |field: (&str, &str)| {
        let answer = send(&server, false, form("/login", "", &[field])).await;
        let cookie = answer.header("set-cookie").split(';').next().unwrap();
        (answer.status, cookie.to_owned())
    };
    let (_, by_token) = open(("token", &token.secret)).await;
    let (_, by_link) = open(("one_time", &used.secret)).await;
    let other = sign_in(&server, Role::Viewer).await;
    for cookie in [&by_token, &by_link, &other] {
        assert!(!is_out(&server, cookie).await);
    }
    revoke_token(&server.store, "gone").unwrap();
    for cookie in [&by_token, &by_link] {
        assert!(is_out(&server, cookie).await);
    }
    for field in [("token", &token.secret), ("one_time", &unused.secret)] {
        let (status, _) = open((field.0, field.1)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{}", field.0);
    }
    assert!(!is_out(&server, &other).await, "another's session goes on");
}

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
async fn the_audit_log_shows_changes_and_logins_to_admins() {
    let server = Server::with_findings(1);
    let (editor, admin) = (
        sign_in(&server, Role::Editor).await,
        sign_in(&server, Role::Admin).await,
    );
    for _ in 0..3 {
        send(&server, false, form("/login", "", &[("token", "hw_0_0")])).await;
    }
    let link = create_token(&server.store, "linked", Role::Viewer).unwrap();
    let link = login_link(&server.store, &link).unwrap();
    send(
        &server,
        false,
        form("/login", "", &[("one_time", &link.secret)]),
    )
    .await;
    let name = format!("{SOURCE}/findings/f0");
    let csrf = csrf_of(&send(&server, false, page("/findings", &editor)).await.body);
    let fields = [
        ("csrf", csrf.as_str()),
        ("name", &name),
        ("action", "inactive"),
    ];
    send(&server, false, form("/findings/actions", &editor, &fields)).await;

    let refused = send(&server, false, page("/audit", &editor)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let log = send(&server, false, page("/audit", &admin)).await.body;
    let rows: Vec<&str> = log.split("<tr>").skip(2).collect();
    for (row, parts) in rows.iter().zip([
        ["editor", "set state", "INACTIVE"],
        ["linked", "log in", "link"],
        ["command line", "create token", "viewer"],
        ["unknown", "refuse login", "127.0.0.1"],
        ["admin", "log in", "token"],
        ["editor", "log in", "127.0.0.1"],
    ]) {
        assert!(
            parts.iter().all(|part| row.contains(part)),
            "{parts:?}: {row}"
        );
    }
    assert!(rows[0].contains(&format!("href=\"/finding/{SOURCE}/findings/f0\"")));
    let viewer = sign_in(&server, Role::Viewer).await;
    let csrf = csrf_of(&send(&server, false, page("/findings", &viewer)).await.body);
    let out = send(&server, false, form("/logout", &viewer, &[("csrf", &csrf)])).await;
    assert_eq!(out.header("location"), "/login");
    let entry = server.store.audit_log(i64::MAX, 1).unwrap().remove(0);
    assert_eq!(
        [entry.who, entry.action, entry.target],
        ["viewer", "log out", "127.0.0.1"]
    );
    let finding = send(&server, false, page(&format!("/finding/{name}"), &editor))
        .await
        .body;
    let card = finding.split("<h2 id=\"changes\">").nth(1).unwrap();
    assert!(card.contains("set state <code>INACTIVE</code>") && card.contains("by editor"));

    // Older entries are a page on.
    for _ in 0..100 {
        server
            .store
            .note(
                store::Change {
                    who: "x",
                    now: model::Timestamp(1),
                },
                "y",
                "z",
                &serde_json::Value::Null,
            )
            .unwrap();
    }
    let first = send(&server, false, page("/audit", &admin)).await.body;
    let older = first.split("href=\"/audit?before=").nth(1).unwrap();
    let older = format!("/audit?before={}", older.split('"').next().unwrap());
    assert!(!first.contains("INACTIVE"));
    assert!(
        send(&server, false, page(&older, &admin))
            .await
            .body
            .contains("INACTIVE")
    );
}

#[tokio::test]
async fn a_link_from_another_site_is_asked_for_again_with_the_cookie() {
    let server = Server::empty();
    let request = Request::get("/coverage")
        .header("sec-fetch-site", "cross-site")
        .body(Body::empty())
        .unwrap();
    let answer = send(&server, false, request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("http-equiv=\"refresh\""));
}

#[tokio::test]
async fn a_wrong_query_is_shown_with_its_place_and_searches_nothing() {
    let server = Server::with_findings(2);
    let cookie = sign_in(&server, Role::Viewer).await;
    let answer = send(
        &server,
        false,
        page("/findings?q=nofield%3D%22%3Cb%3E%22", &cookie),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer
            .body
            .contains("<mark>nofield</mark>=&quot;&lt;b&gt;&quot;"),
        "{}",
        answer.body
    );
    let export = send(
        &server,
        false,
        page("/findings/export.csv?q=nofield%3D1", &cookie),
    )
    .await;
    assert_eq!(export.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn values_of_any_indexed_field_and_keys_are_completed() {
    let server = Server::empty();
    let mut result = finding(1);
    let hash = "ab".repeat(32);
    let file = |path: &str| model::finding::File {
        path: path.to_owned(),
        sha256: hash.clone(),
        ..model::finding::File::default()
    };
    result.finding.files = vec![file("/tmp/dropped"), file("/usr/bin/other")];
    result.finding.processes = vec![model::finding::Process {
        binary: Some(file("/tmp/dropped")),
        ..model::finding::Process::default()
    }];
    server.store.record(&[result]).unwrap();
    let marks = [("team".to_owned(), "red".to_owned())].into();
    let now = std::time::SystemTime::now().into();
    let change = store::Change { who: "test", now };
    let name = format!("{SOURCE}/findings/f1");
    server.store.set_marks(&name, &marks, &[], change).unwrap();
    let cookie = sign_in(&server, Role::Viewer).await;
    let offered = async |typed: &str| -> Vec<String> {
        let q: String = form_urlencoded::byte_serialize(typed.as_bytes()).collect();
        let path = format!("/findings/complete?q={q}");
        let answer = send(&server, false, page(&path, &cookie)).await;
        assert_eq!(answer.status, StatusCode::OK, "{typed}: {}", answer.body);
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let items = json["items"].as_array().unwrap().iter();
        items
            .map(|item| item["text"].as_str().unwrap().to_owned())
            .collect()
    };
    for (typed, value) in [
        ("files.path=", "/tmp/dropped"),
        ("files.path=\"/usr", "/usr/bin/other"),
        ("processes.binary.path=\"/TMP", "/tmp/dropped"),
        ("processes.binary.sha256=\"ab", hash.as_str()),
        ("security_marks.marks.team=", "red"),
    ] {
        assert!(
            offered(typed).await.contains(&format!("\"{value}\"")),
            "{typed}"
        );
    }
    assert_eq!(offered("files.path=\"/usr").await.len(), 1);
    assert!(
        offered("security_marks.marks.t")
            .await
            .contains(&"security_marks.marks.team".to_owned())
    );
    for nothing in [
        "description=",
        "no_such_field=",
        "security_marks.marks.none=",
    ] {
        assert!(offered(nothing).await.is_empty(), "{nothing}");
    }
}

#[tokio::test]
async fn the_timeline_shows_what_is_nearest_and_says_what_it_leaves_out() {
    const SECOND: u64 = 1_000_000_000;
    let server = Server::empty();
    let at = |id: &str, time: u64| {
        let mut result = finding(1);
        result.finding.name = format!("{SOURCE}/findings/{id}");
        result.finding.event_time = Some(model::Timestamp(time));
        result.finding.containers = vec![model::finding::Container {
            name: "api".to_owned(),
            ..model::finding::Container::default()
        }];
        result
    };
    let noon = 1_800_000_000 * SECOND;
    let mut findings = vec![at("this", noon), at("near", noon - SECOND)];
    for n in 0..60 {
        findings.push(at(&format!("later{n}"), noon + (600 + n) * SECOND));
    }
    findings.push(at("never", noon + 7200 * SECOND));
    server.store.record(&findings).unwrap();
    let cookie = sign_in(&server, Role::Viewer).await;
    let path = format!("/finding/{SOURCE}/findings/this");
    let body = send(&server, false, page(&path, &cookie)).await.body;
    let timeline = body.split("<ol class=\"timeline\">").nth(1).unwrap();
    let (timeline, rest) = timeline.split_once("</ol>").unwrap();
    assert_eq!(timeline.matches("<li").count(), 51);
    for (id, is_shown) in [("near", true), ("later48", true), ("later49", false)] {
        assert_eq!(timeline.contains(&format!("/{id}\"")), is_shown, "{id}");
    }
    let first = timeline.find("1.0 s before").unwrap();
    assert!(first < timeline.find("aria-current").unwrap());
    let hint = rest.split("</p>").next().unwrap();
    assert!(hint.contains("11 more"), "{hint}");
    let all = hint
        .split("href=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let all = send(&server, false, page(&all.replace("&amp;", "&"), &cookie))
        .await
        .body;
    let total = all.split("id=\"total\">").nth(1).unwrap();
    assert!(total.starts_with("62"), "{}", &total[..40]);
}

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

#[tokio::test]
async fn a_link_in_a_finding_is_a_link_only_when_it_leads_to_a_web_page() {
    let server = Server::empty();
    let mut result = finding(1);
    result.finding.external_uri = "javascript:alert(1)".to_owned();
    server.store.record(&[result]).unwrap();
    let cookie = sign_in(&server, Role::Viewer).await;
    let answer = send(
        &server,
        false,
        page(&format!("/finding/{SOURCE}/findings/f1"), &cookie),
    )
    .await;
    assert!(!answer.body.contains("href=\"javascript:"));
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

#[tokio::test]
async fn ended_containers_come_in_pages() {
    let server = Server::empty();
    let container = |number: u64| store::ContainerState {
        id: format!("id{number}"),
        name: format!("container-{number:03}"),
        since: model::Timestamp(number),
        ended: Some(model::Timestamp(number)),
        ..store::ContainerState::default()
    };
    let all: Vec<_> = (1..=150).map(container).collect();
    server.store.record_containers(&all).unwrap();
    let cookie = sign_in(&server, Role::Viewer).await;
    let first = send(&server, false, page("/coverage", &cookie)).await.body;
    assert!(first.contains("150 containers") && first.contains("container-051"));
    assert!(!first.contains("container-050"));
    assert!(
        first.contains("href=\"/coverage?ended=100#ended\""),
        "{first}"
    );
    let second = send(&server, false, page("/coverage?ended=100", &cookie))
        .await
        .body;
    assert!(second.contains("container-050") && second.contains("container-001"));
    assert!(!second.contains("container-051") && second.contains("Newer"));
}

#[tokio::test]
async fn every_page_says_that_the_watch_has_errors() {
    let server = Server::empty();
    let store = &server.store;
    let cookie = sign_in(&server, Role::Viewer).await;
    let chip = async || {
        let body = send(&server, false, page("/index", &cookie)).await.body;
        let chip = body.split("class=\"watch ").nth(1).unwrap();
        chip.split("</a>").next().unwrap().to_owned()
    };
    let error = |number, severity| {
        let mut result = finding(number);
        result.finding.finding_class = FindingClass::SccError;
        result.finding.severity = severity;
        result
    };
    store
        .begin_run(std::time::SystemTime::now().into())
        .unwrap();
    // What a container does, and a stop in order, are no fault of the watch.
    store
        .record(&[finding(1), error(2, Severity::Low)])
        .unwrap();
    assert_eq!(chip().await, "good\" href=\"/coverage\">Watching");
    store
        .record(&[error(3, Severity::Medium), error(4, Severity::High)])
        .unwrap();
    assert_eq!(
        chip().await,
        "bad\" href=\"/coverage\">2 errors of the watch"
    );
    let now = std::time::SystemTime::now().into();
    let change = store::Change { who: "test", now };
    let name = |key| format!("{SOURCE}/findings/f{key}");
    store.set_state(&name(3), State::Inactive, change).unwrap();
    assert_eq!(
        chip().await,
        "bad\" href=\"/coverage\">1 error of the watch"
    );
    store.set_mute(&name(4), Mute::Muted, change).unwrap();
    assert_eq!(chip().await, "good\" href=\"/coverage\">Watching");
}

#[tokio::test]
async fn coverage_says_why_a_queue_is_not_worked_off() {
    let server = Server::empty();
    let store = &server.store;
    let now = std::time::SystemTime::now().into();
    let config = |id: &str, topic: &str| store::NotificationConfig {
        name: format!("organizations/1/locations/global/notificationConfigs/{id}"),
        pubsub_topic: topic.to_owned(),
        ..store::NotificationConfig::default()
    };
    let change = store::Change { who: "test", now };
    for (id, topic) in [
        ("good", "projects/p/topics/hook"),
        ("typo", "projects/p/topics/hok"),
    ] {
        store.create(&config(id, topic), change).unwrap();
    }
    store.set_sink("hook", "").unwrap();
    store.set_sink("late", "").unwrap();
    let cookie = sign_in(&server, Role::Viewer).await;
    let row = async |name: &str| {
        let body = send(&server, false, page("/coverage", &cookie)).await.body;
        let start = body.find(&format!("<td>{name}</td>")).unwrap();
        body[start..].split("</tr>").next().unwrap().to_owned()
    };
    let name = |id| config(id, "").name;
    assert!(
        row("hook")
            .await
            .contains("no Hullwatch that runs here sends")
    );
    let _lock = store.lock_notifier().unwrap().unwrap();
    for fine in ["hook".to_owned(), name("good")] {
        assert!(row(&fine).await.contains("Delivers"), "{fine}");
    }
    let typo = row(&name("typo")).await;
    assert!(
        typo.contains("no sink is called &quot;hok&quot;") && !typo.contains("Delivers"),
        "{typo}"
    );

    // Nobody has tried to send what was made an hour ago.
    let late = model::Timestamp(now.0 - 3_600_000_000_000);
    let late = store::Change {
        now: late,
        ..change
    };
    let second = format!("{SOURCE}/findings/f2");
    store.create_finding(&second, &finding(2), late).unwrap();
    assert!(row("late").await.contains("messages wait for long"));
    store.record(&[finding(1)]).unwrap();
    let far = model::Timestamp(u64::MAX / 2);
    let refused = store.due("hook", far, 1).unwrap().remove(0);
    store.give_up(&refused, "answered 413").unwrap();
    assert!(row("hook").await.contains("answered 413"));
    store.retire_other_sinks(&["late"], now).unwrap();
    for gone in ["hook".to_owned(), name("good")] {
        assert!(
            row(&gone)
                .await
                .contains("the configuration has no sink &quot;hook&quot;")
        );
    }
}
