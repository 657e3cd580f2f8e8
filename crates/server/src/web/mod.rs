//! The review page: server-rendered, for keyboards and tired eyes, under a strict content security policy.
//!
//! A page is a struct with a template and a function that fills it. Nothing needs script; `static/hullwatch.js` adds keys,
//! completion, brushing and new findings without reload. All data passes the filters of [`text`].

mod assets;
mod attack;
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
mod shown;
mod text;
mod tree;
mod view;
mod write;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use model::Timestamp;
use store::Store;

use self::{
    frame::{Frame, Section, Watch},
    session::Session,
};
use crate::auth::Limiter;
use self::text as filters;

/// What the pages work on.
pub struct Web {
    /// Findings, sessions, audit log.
    pub store: Arc<Store>,
    /// Counts failed logins; shared with the API.
    pub limiter: Arc<Limiter>,
    /// The server speaks TLS, so cookies may say `Secure`.
    pub tls: bool,
    /// Which detectors run, for the threat findings index.
    pub detectors: detect::Settings,
}

/// All pages. The caller gives each request a `ConnectInfo<SocketAddr>` extension.
pub fn router(web: Arc<Web>) -> Router {
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
        .route("/static/{digest}/{name}", get(assets::serve))
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
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Web {
    /// The common part of a page for this session.
    pub(crate) async fn frame(
        self: &Arc<Self>,
        title: &str,
        section: Section,
        session: &Session,
    ) -> Result<Frame, Failure> {
        let web = Arc::clone(self);
        let user = session.user();
        let title = title.to_owned();
        blocking(move || Ok(Frame::new(title, section, Some(user), coverage::watch(&web.store)?))).await
    }
}

/// A page that cannot be shown, or a change that was not made.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound(String),
    Forbidden(String),
    Bad(String),
    TooMany(String),
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

fn html(page: &impl Template) -> Result<Response, Failure> {
    Ok(Html(page.render()?).into_response())
}

/// Runs what works on the store on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(internal(&error)))
}

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}
