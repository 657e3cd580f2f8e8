//! The review page: server-rendered, for keyboards and tired eyes, under a strict content security policy.
//!
//! A page is a struct with a template and a function that fills it. Nothing needs script; `static/hullwatch.js` adds keys,
//! completion, brushing and new findings without reload. All data passes the filters of [`text`].

mod assets;
pub(crate) mod attack;
mod audit;
mod clauses;
mod complete;
mod coverage;
mod export;
mod finding;
mod findings;
mod frame;
mod histogram;
mod index;
mod login;
mod response;
mod session;
pub(crate) mod shown;
#[expect(unreachable_pub, reason = "what makes filters makes public items")]
mod text;
mod tree;
mod view;
mod write;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use store::Store;
use tokio::sync::Semaphore;

use self::text as filters;
use self::{
    frame::{Frame, Section, Watch},
    session::Session,
};
use crate::{
    app::{App, Share},
    limits::{EXPORTS_MAX, FORM_BYTES_MAX},
    status::{Code, Status},
};

/// What the pages need besides what they share with the API.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// The server speaks TLS, so cookies may say `Secure`.
    pub tls: bool,
    /// Which detectors run, for the threat findings index.
    pub detectors: detect::Settings,
}

/// What all pages work on.
pub(crate) struct Web {
    app: App,
    pages: Pages,
    /// Exports that may begin.
    exports: Arc<Semaphore>,
}

/// All pages. Requests carry a [`crate::app::Peer`].
pub fn router(app: App, pages: Pages) -> Router {
    let web = Arc::new(Web::new(app, pages));
    Router::new()
        .route("/", get(async || Redirect::to("/findings")))
        .route("/login", get(login::form).post(login::login))
        .route("/logout", post(login::logout))
        .route("/findings", get(findings::show))
        .route("/findings/live", get(findings::live))
        .route("/findings/check", get(complete::check))
        .route("/findings/complete", get(complete::complete))
        .route("/findings/actions", post(write::actions))
        .route("/findings/marks", post(write::marks))
        .route("/findings/export.csv", get(export::csv))
        .route("/findings/export.json", get(export::json))
        .route("/finding/{*name}", get(finding::show))
        .route("/index", get(index::list))
        .route("/index/{id}", get(index::detector))
        .route("/coverage", get(coverage::show))
        .route("/audit", get(audit::show))
        .route("/static/{digest}/{name}", get(assets::serve))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(secure))
        .with_state(web)
}

/// Everything comes from here, nothing runs inline, nobody frames it, and no page stays in a cache.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Web {
    fn new(app: App, pages: Pages) -> Self {
        Self {
            app,
            pages,
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.app.service().store()
    }

    /// Runs what works on the store on a thread that may block, as one of the bounded number that API calls share.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        share: Share,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let web = Arc::clone(self);
        self.app.blocking(share, move |_| Ok(work(&web))).await?
    }

    /// As [`App::sign_in`].
    pub(crate) async fn sign_in<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let web = Arc::clone(self);
        self.app.sign_in(move |_| Ok(work(&web))).await?
    }

    /// The common part of a page for this session.
    pub(crate) async fn frame(
        self: &Arc<Self>,
        title: &str,
        section: Section,
        session: &Session,
    ) -> Result<Frame, Failure> {
        let user = session.user();
        let title = title.to_owned();
        self.blocking(session.share(), move |web| {
            Ok(Frame::new(
                title,
                section,
                Some(user),
                coverage::watch(web.store())?,
            ))
        })
        .await
    }
}

/// A page that cannot be shown, or a change that was not made.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound(String),
    Forbidden(String),
    Bad(String),
    TooMany(String),
    /// A question that would keep the store busy for too long; the message says how to ask better.
    TooSlow(String),
    /// A fault of ours; the cause is logged where it happens.
    Internal,
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound(what) => Self::NotFound(format!("There is no {what}.")),
            store::Error::Filter(_) | store::Error::Invalid { .. } | store::Error::Exists(_) => {
                Self::Bad(error.to_string())
            }
            store::Error::TooSlow => Self::TooSlow(error.to_string()),
            _ => internal(&error),
        }
    }
}

impl From<crate::auth::TokenError> for Failure {
    fn from(error: crate::auth::TokenError) -> Self {
        internal(&error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        internal(&error)
    }
}

impl From<askama::Error> for Failure {
    fn from(error: askama::Error) -> Self {
        internal(&error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.code {
            Code::NotFound => Self::NotFound(status.message),
            Code::PermissionDenied | Code::Unauthenticated => Self::Forbidden(status.message),
            Code::ResourceExhausted => Self::TooMany(status.message),
            Code::DeadlineExceeded => Self::TooSlow(status.message),
            Code::Internal => Self::Internal,
            _ => Self::Bad(status.message),
        }
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    tracing::error!(error = %error, "a page failed: {error}");
    Failure::Internal
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    message: String,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title, message) = match self {
            Self::NotFound(message) => (StatusCode::NOT_FOUND, "Not found", message),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, "Not allowed", message),
            Self::Bad(message) => (StatusCode::BAD_REQUEST, "That did not work", message),
            Self::TooMany(message) => (StatusCode::TOO_MANY_REQUESTS, "Too many tries", message),
            Self::TooSlow(message) => (StatusCode::GATEWAY_TIMEOUT, "That takes too long", message),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something failed here",
                "The server's log says what.".to_owned(),
            ),
        };
        let watch = Watch {
            good: true,
            text: String::new(),
        };
        let page = ErrorPage {
            frame: Frame::new(title, Section::None, None, watch),
            message,
        };
        match page.render() {
            Ok(body) => (status, Html(body)).into_response(),
            Err(_) => status.into_response(),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<Response, Failure> {
    Ok((
        [(header::CONTENT_TYPE, "application/json")],
        serde_json::to_string(value)?,
    )
        .into_response())
}

fn html(page: &impl Template) -> Result<Response, Failure> {
    Ok(Html(page.render()?).into_response())
}
