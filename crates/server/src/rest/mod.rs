//! SCC's REST form: JSON over HTTP, one handler for all routes of the method table.

mod bind;
pub(crate) mod openapi;
mod route;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::answer;
use crate::app::{App, Peer};
use crate::limits::BODY_BYTES_MAX;
use crate::status::{Code, Status};

/// Answers a call below `/v2/`.
pub(crate) async fn handle(State(app): State<App>, request: Request) -> Response {
    let answer =
        match tokio::time::timeout(crate::limits::REQUEST_TIMEOUT, call(&app, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::new(
                Code::DeadlineExceeded,
                "The request took longer than the server allows.",
            )),
        };
    match answer {
        Ok(json) => json_response(StatusCode::OK, json),
        Err(status) => failure(&status),
    }
}

/// Answers with the OpenAPI document.
pub(crate) async fn openapi(State(app): State<App>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let peer = Peer::of(&parts.extensions);
    match app.authenticate(&parts.headers, peer).await {
        Ok(_) => json_response(StatusCode::OK, openapi::document().to_string()),
        Err(status) => failure(&status),
    }
}

async fn call(app: &App, request: Request) -> Result<Vec<u8>, Status> {
    let (parts, body) = request.into_parts();
    let caller = app
        .authenticate(&parts.headers, Peer::of(&parts.extensions))
        .await?;
    let found = route::find(parts.method.as_str(), parts.uri.path())?;
    let body = read(body).await?;
    let bound = bind::request(&found, parts.uri.query().unwrap_or_default(), &body)?;
    let encode = move |message, json| answer::to_bytes(message, &json, bound.enums);
    app.call(found.method, caller, bound.message, encode).await
}

async fn read(body: Body) -> Result<axum::body::Bytes, Status> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::invalid(format!(
            "Request payload size exceeds the limit: {BODY_BYTES_MAX} bytes."
        ))),
        Err(_) => Err(Status::invalid("The request's body ended too early.")),
    }
}

/// A failed call as Google's servers answer it.
pub(crate) fn failure(status: &Status) -> Response {
    let code =
        StatusCode::from_u16(status.code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(code, status.to_rest().to_string());
    let headers = response.headers_mut();
    match status.code {
        Code::Unauthenticated => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Code::ResourceExhausted => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        _ => {}
    }
    response
}

fn json_response(code: StatusCode, json: impl Into<Body>) -> Response {
    let mut response = Response::new(json.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json; charset=UTF-8"),
        (header::CACHE_CONTROL, "no-store"),
        // What a container wrote must not be taken for a page, whoever opens the address in a browser.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
