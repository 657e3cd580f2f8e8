//! Requests that are wrong: always a clear answer, never a fault of the server.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use server::auth::{Role, create_token, revoke_token};
use server::limits::{AUTH_FAILURES_MAX, BODY_BYTES_MAX};

use crate::support::{SOURCE, Server};

async fn with_authorization(server: &Server, value: Option<&str>) -> (StatusCode, Value) {
    let mut request = Request::builder().uri(format!("/v2/{SOURCE}/findings"));
    if let Some(value) = value {
        request = request.header(header::AUTHORIZATION, value);
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn only_a_valid_token_is_let_in() {
    let server = Server::empty();
    let good = format!("Bearer {}", server.token(Role::Viewer));
    assert_eq!(
        with_authorization(&server, Some(&good)).await.0,
        StatusCode::OK
    );
    assert_eq!(
        with_authorization(&server, Some(&good.replace("Bearer", "bearer")))
            .await
            .0,
        StatusCode::OK
    );
    let last = good.chars().last().unwrap();
    let other = format!(
        "{}{}",
        &good[..good.len() - 1],
        if last == '0' { '1' } else { '0' }
    );
    let revoked = create_token(&server.store, "gone", Role::Admin)
        .unwrap()
        .secret;
    revoke_token(&server.store, "gone").unwrap();
    let log = server.store.audit_log(i64::MAX, 2).unwrap();
    let lines: Vec<_> = log
        .iter()
        .map(|line| (line.action.as_str(), line.target.as_str()))
        .collect();
    assert_eq!(lines, [("revoke token", "gone"), ("create token", "gone")]);
    let bare = server.token(Role::Viewer).to_owned();
    let revoked = format!("Bearer {revoked}");
    for wrong in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic YTpi"),
        Some("Bearer hw_"),
        Some("Bearer hw_'; DROP TABLE credential; --_x"),
        Some(other.as_str()),
        Some(bare.as_str()),
        Some(revoked.as_str()),
    ] {
        let (status, body) = with_authorization(&server, wrong).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong:?}");
        assert_eq!(body["error"]["status"], "UNAUTHENTICATED");
    }
    // Nothing is told to a stranger, not even what exists.
    let request = Request::builder()
        .uri("/v2/nothing/here")
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.send(request).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_guesser_is_slowed_down_and_its_neighbors_are_not() {
    let server = Server::empty();
    for _ in 0..AUTH_FAILURES_MAX {
        assert_eq!(
            with_authorization(&server, Some("Bearer x")).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    let (status, body) = with_authorization(&server, Some("Bearer x")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["error"]["status"], "RESOURCE_EXHAUSTED");
    let good = format!("Bearer {}", server.token(Role::Viewer));
    assert_eq!(
        with_authorization(&server, Some(&good)).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn wrong_queries_are_told_what_is_wrong() {
    let server = Server::with_findings(3);
    let findings = format!("/v2/{SOURCE}/findings");
    for (query, said) in [
        ("filter=severity%3D", "position 9"),
        ("filter=nope%3D%22x%22", "nope"),
        ("filter=(((", "filter"),
        ("orderBy=nope", "nope"),
        ("orderBy=event_time%20sideways", "order"),
        ("pageSize=-1", "page_size"),
        ("pageSize=many", "pageSize"),
        ("pageSize=99999999999", "pageSize"),
        ("pageToken=zz", "page_token"),
        ("pageToken=00", "page_token"),
        ("fieldMask=nope", "nope"),
        ("fieldMask=category.x", "category.x"),
        ("bogus=1", "bogus"),
        ("parent=organizations/2", "parent"),
        ("filter=%FF", "filter"),
    ] {
        let (status, answer) = server
            .call("GET", &format!("{findings}?{query}"), Value::Null)
            .await;
        if query.starts_with("parent=") {
            // The path decides.
            assert_eq!(status, StatusCode::OK, "{answer}");
            continue;
        }
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {answer}");
        assert_eq!(answer["error"]["status"], "INVALID_ARGUMENT", "{query}");
        let message = answer["error"]["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains(&said.to_lowercase()), "{query}: {message}");
    }
    // The field at fault is named for programs too.
    let (_, answer) = server
        .call(
            "GET",
            &format!("{findings}?filter=severity%3D"),
            Value::Null,
        )
        .await;
    assert_eq!(
        answer["error"]["details"][0]["fieldViolations"][0]["field"],
        "filter"
    );
    // Larger than the largest is the largest, and a token is of its query.
    let all = server
        .ok("GET", &format!("{findings}?pageSize=5000"), Value::Null)
        .await;
    assert_eq!(all["listFindingsResults"].as_array().unwrap().len(), 3);
    let first = server
        .ok("GET", &format!("{findings}?pageSize=1"), Value::Null)
        .await;
    let token = first["nextPageToken"].as_str().unwrap();
    let other = format!("{findings}?pageSize=1&filter=state%3D%22ACTIVE%22&pageToken={token}");
    assert!(
        server
            .fails("GET", &other, Value::Null)
            .await
            .2
            .contains("page_token")
    );
    for body in [
        json!({}),
        json!({"groupBy": "nope"}),
        json!({"groupBy": ",,"}),
    ] {
        assert_eq!(
            server
                .fails("POST", &format!("{findings}:group"), body)
                .await
                .0,
            400
        );
    }
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_not_found() {
    let server = Server::with_findings(1);
    for (verb, path) in [
        ("GET", "/v2/"),
        ("GET", "/v2/organizations/1"),
        ("GET", "/v2/organizations/1/sources/1/findings/f0"),
        ("DELETE", "/v2/organizations/1/sources/1/findings/f0"),
        ("GET", "/v2/organizations/1/sources/../sources/1"),
        ("GET", "/v2/organizations/1/sources/%2e%2e/sources"),
        ("GET", "/v2/organizations//sources"),
        ("GET", "/v2/organizations/1%2Fsources/1/findings"),
        ("GET", "/v2/organizations/1/sources/1%2F..%2F2"),
        ("GET", "/v2/organizations/1/sources/1%00"),
        ("GET", "/v2/users/1/sources"),
        ("GET", "/v3/organizations/1/sources"),
        ("POST", "/v2/organizations/1/sources/1:explode"),
        (
            "POST",
            "/v2/organizations/1/sources/1/findings/f0:setMute:setMute",
        ),
    ] {
        let (status, answer) = server.call(verb, path, Value::Null).await;
        assert!(
            matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST),
            "{verb} {path}: {status} {answer}"
        );
    }
    let (status, code, _) = server
        .fails(
            "GET",
            "/v2/organizations/1/locations/global/bigQueryExports",
            Value::Null,
        )
        .await;
    assert_eq!((status, code.as_str()), (501, "UNIMPLEMENTED"));
}

#[tokio::test]
async fn a_body_has_a_limit_and_must_be_json() {
    let server = Server::empty();
    let path = format!("/v2/{SOURCE}/findings?findingId=a");
    let send = async |body: Vec<u8>| {
        let request = Request::post(&path)
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", server.token(Role::Editor)),
            )
            .body(Body::from(body))
            .unwrap();
        server.send(request).await
    };
    let (status, answer) = send(vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("exceeds the limit"),
        "{answer}"
    );
    for wrong in [
        b"{".to_vec(),
        b"nonsense".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{\"category\": \"\xff\"}".to_vec(),
        [b"[".repeat(10_000), b"]".repeat(10_000)].concat(),
        format!(
            "{{\"sourceProperties\": {{\"a\": {}1{}}}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        )
        .into_bytes(),
        b"{\"state\": 1, \"state\": {}}".to_vec(),
    ] {
        let (status, answer) = send(wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
}
