//! Who is signed in: the session cookie, what the role allows, and the token that every form carries.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
};
use model::hex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Failure, Web, frame::User};
use crate::{
    app::{Peer, Share},
    auth::{self, Caller, Role},
};

/// A signed-in user.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) caller: Caller,
    secret: String,
    share: Share,
}

impl Session {
    pub(crate) fn may_edit(&self) -> bool {
        self.caller.role >= Role::Editor
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// What the pages of this session may have under way.
    pub(crate) fn share(&self) -> Share {
        Arc::clone(&self.share)
    }

    pub(crate) fn user(&self) -> User {
        User {
            name: self.caller.name.clone(),
            role: self.caller.role,
            csrf: self.csrf(),
        }
    }

    /// Checks the token of a form: only our own pages know it.
    pub(crate) fn check_csrf(&self, presented: &str) -> Result<(), Failure> {
        if bool::from(self.csrf().as_bytes().ct_eq(presented.as_bytes())) {
            Ok(())
        } else {
            Err(Failure::Forbidden(
                "The form was not one of this session: go back, reload the page, try again."
                    .to_owned(),
            ))
        }
    }

    /// Derived from the session's secret, so nothing has to be kept for it.
    fn csrf(&self) -> String {
        hex::encode(&Sha256::digest(format!("csrf {}", self.secret)))
    }
}

/// Name of the cookie. Under TLS the prefix makes browsers refuse one that somebody else set (RFC 6265bis, 4.1.3.2).
pub(crate) fn cookie_name(tls: bool) -> &'static str {
    if tls { "__Host-hullwatch" } else { "hullwatch" }
}

/// `Set-Cookie` for a session, or for its end.
pub(crate) fn set_cookie(tls: bool, secret: Option<&str>) -> String {
    let secure = if tls { "; Secure" } else { "" };
    let age = if secret.is_some() { "" } else { "; Max-Age=0" };
    format!(
        "{}={}; Path=/; HttpOnly; SameSite=Strict{secure}{age}",
        cookie_name(tls),
        secret.unwrap_or_default()
    )
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

impl FromRequestParts<Arc<Web>> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        let peer = Peer::of(&parts.extensions);
        if let Some(secret) = cookie(&parts.headers, cookie_name(web.pages.tls)).map(str::to_owned)
        {
            let presented = secret.clone();
            let found = web
                .sign_in(move |web| Ok(auth::session(web.store(), &presented)?))
                .await;
            if let Some(holder) = found.map_err(IntoResponse::into_response)? {
                let share = web.app.share(&holder.name);
                let caller = Caller {
                    name: holder.name,
                    role: holder.role,
                    peer,
                };
                return Ok(Self {
                    caller,
                    secret,
                    share,
                });
            }
        }
        Err(not_signed_in(parts))
    }
}

fn not_signed_in(parts: &Parts) -> Response {
    let site = parts
        .headers
        .get("sec-fetch-site")
        .and_then(|value| value.to_str().ok());
    if parts.method == "GET" && site == Some("cross-site") {
        // A link on another site does not carry a SameSite=Strict cookie; asking again from here does.
        return Html("<!doctype html><html lang=\"en\"><meta http-equiv=\"refresh\" content=\"0\"><title>Hullwatch</title>")
            .into_response();
    }
    let next = match (parts.method.as_str(), parts.uri.path_and_query()) {
        ("GET", Some(path)) => path.as_str(),
        _ => "/findings",
    };
    let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    Redirect::to(&format!("/login?next={next}")).into_response()
}

/// An address within these pages, to go to after a form; `/findings` for anything else.
pub(crate) fn local(address: &str) -> &str {
    let known = ["/findings", "/finding/", "/index", "/coverage", "/audit"];
    let fine = known.iter().any(|prefix| {
        address.strip_prefix(prefix).is_some_and(|rest| {
            prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['?', '/'])
        })
    }) && address
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if fine { address } else { "/findings" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_are_gone_to_after_a_form() {
        for bad in [
            "//evil.test/",
            "https://evil.test/",
            "/\\evil.test",
            "/findings\r\nx: y",
            "",
            "/findingsx",
            "/logout",
        ] {
            assert_eq!(local(bad), "/findings", "{bad:?}");
        }
        for good in [
            "/findings?q=a%22",
            "/finding/organizations/1/x",
            "/index/sensor_lost",
            "/coverage",
        ] {
            assert_eq!(local(good), good);
        }
    }

    #[test]
    fn the_right_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            "a=b; hullwatch-x=1; hullwatch=secret".parse().unwrap(),
        );
        assert_eq!(cookie(&headers, "hullwatch"), Some("secret"));
        assert_eq!(cookie(&headers, "__Host-hullwatch"), None);
    }
}
