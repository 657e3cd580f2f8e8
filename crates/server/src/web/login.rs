//! Signing in with a token or a one-time link, and signing out.

use std::sync::Arc;

use super::{
    Failure, Web,
    frame::{Frame, Section, Watch},
    html,
    session::{self, Session},
    text as filters,
};
use crate::{
    app::{Peer, now},
    auth,
    limits::HEADER_TIMEOUT,
};
use askama::Template;
use axum::{
    body::Bytes,
    extract::{FromRequest, RawQuery, Request, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use serde_json::{Value, json};
use store::Change;

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    frame: Frame,
    error: Option<String>,
    /// Secret of a one-time link. The link only fills in the form: a program that previews links does not use it up.
    one_time: String,
    next: String,
}

/// `GET /login`.
pub(crate) async fn form(RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    html(&page(None, fields.get("code"), fields.get("next")))
}

fn page(error: Option<String>, one_time: &str, next: &str) -> Page {
    let watch = Watch {
        good: true,
        text: String::new(),
    };
    Page {
        frame: Frame::new("Sign in", Section::None, None, watch),
        error,
        one_time: one_time.to_owned(),
        next: session::local(next).to_owned(),
    }
}

/// `POST /login`.
pub(crate) async fn login(State(web): State<Arc<Web>>, form: Form) -> Result<Response, Failure> {
    let peer = Peer::of(&form.parts.extensions);
    let (token, one_time) = (
        form.get("token").trim().to_owned(),
        form.get("one_time").to_owned(),
    );
    let next = session::local(form.get("next")).to_owned();
    let is_link = !one_time.is_empty();
    let outcome = web
        .sign_in(move |web| {
            let store = web.store();
            let found = if is_link {
                auth::redeem_login(store, &one_time)?
            } else {
                auth::token_holder(store, &token)?
            };
            let Some(holder) = found else {
                if !web.app.limiter().failed(peer, now()) {
                    return Ok(Outcome::TooMany);
                }
                store.note_refused_login(&auth::network(peer).to_string(), now())?;
                return Ok(Outcome::Refused);
            };
            let session = auth::open_session(store, &holder)?;
            let change = Change {
                who: &holder.name,
                now: now(),
            };
            let detail = json!({ "with": if is_link { "link" } else { "token" } });
            store.note(change, "log in", &peer.to_string(), &detail)?;
            Ok(Outcome::SignedIn(session))
        })
        .await?;
    match outcome {
        Outcome::SignedIn(session) => Ok((
            [(
                header::SET_COOKIE,
                session::set_cookie(web.pages.tls, Some(&session.secret)),
            )],
            Redirect::to(&next),
        )
            .into_response()),
        Outcome::Refused => {
            let error = if is_link {
                "That link was used already, or is too old. Sign in with a token."
            } else {
                "That token is not valid (any more)."
            };
            let page = page(Some(error.to_owned()), "", &next);
            Ok((StatusCode::UNAUTHORIZED, html(&page)?).into_response())
        }
        Outcome::TooMany => Err(Failure::TooMany(
            "Too many failed tries from this address. Wait a minute.".to_owned(),
        )),
    }
}

enum Outcome {
    SignedIn(auth::NewToken),
    Refused,
    TooMany,
}

/// `POST /logout`.
pub(crate) async fn logout(
    State(web): State<Arc<Web>>,
    session: Session,
    form: Form,
) -> Result<Response, Failure> {
    session.check_csrf(form.get("csrf"))?;
    web.sign_in(move |web| {
        if auth::session_end(web.store(), session.secret())? {
            let change = Change {
                who: &session.caller.name,
                now: now(),
            };
            let peer = session.caller.peer.to_string();
            web.store().note(change, "log out", &peer, &Value::Null)?;
        }
        Ok(())
    })
    .await?;
    let cookie = [(header::SET_COOKIE, session::set_cookie(web.pages.tls, None))];
    Ok((cookie, Redirect::to("/login")).into_response())
}

/// Fields of a form or an address.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first value of this name, or nothing.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A form that was sent by one of our pages. Browsers say where a form comes from; those that do not are held by the
/// cookie's SameSite and, where there is a session, by the form's token.
pub(crate) struct Form {
    pub(crate) parts: Parts,
    fields: Fields,
}

impl Form {
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.get(name)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.all(name)
    }
}

impl FromRequest<Arc<Web>> for Form {
    type Rejection = Failure;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let site = parts
            .headers
            .get("sec-fetch-site")
            .and_then(|value| value.to_str().ok());
        if !matches!(site, None | Some("same-origin" | "none")) {
            return Err(Failure::Forbidden(
                "A form of another site is not taken.".to_owned(),
            ));
        }
        let body = Bytes::from_request(Request::from_parts(parts.clone(), body), web);
        // Too late, too large, or cut off.
        let body = match tokio::time::timeout(HEADER_TIMEOUT, body).await {
            Ok(Ok(body)) => body,
            _ => {
                return Err(Failure::Bad(
                    "The form is too large, or did not arrive whole.".to_owned(),
                ));
            }
        };
        Ok(Self {
            parts,
            fields: Fields::parse(&body),
        })
    }
}
