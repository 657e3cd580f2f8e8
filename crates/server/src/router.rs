//! All routes of the server in one place.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{any, get, post};

use crate::app::App;
use crate::methods::SERVICES;
use crate::status::{Code, Status};
use crate::web::Pages;
use crate::{grpc, rest, web};

/// The routes of API and pages.
pub fn router(app: App, pages: Pages) -> Router {
    let pages = web::router(app.clone(), pages);
    let mut router = Router::new()
        .route("/v2/{*path}", any(rest::handle))
        .route("/openapi.json", get(rest::openapi));
    for service in SERVICES {
        router = router.route(&format!("/{service}/{{method}}"), post(grpc::handle));
    }
    router.fallback(missing).with_state(app).merge(pages)
}

async fn missing(_: Request) -> (StatusCode, axum::response::Response) {
    let status = Status::new(Code::NotFound, "There is nothing at this address.");
    (StatusCode::NOT_FOUND, rest::failure(&status))
}
