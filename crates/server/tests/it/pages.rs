//! The review page over HTTP, without a browser: headers, cookies, redirects, and that text stays text.

mod change;
mod export;
mod session;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use model::finding::{FindingClass, Mute, Severity, State};
use server::auth::{Role, create_token, login_link};
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
