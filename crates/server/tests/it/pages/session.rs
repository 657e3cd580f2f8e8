//! Signing in and staying so: the cookie, guessed and revoked tokens, what leads in from outside.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use server::auth::{Role, create_token, login_link, revoke_token};

use super::{csrf_of, form, page, send, sign_in};
use crate::support::Server;

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
