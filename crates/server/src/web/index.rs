//! The threat findings index.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{Failure, Web, session::Session};

/// `GET /index`.
pub(crate) async fn list(State(_web): State<Arc<Web>>, _session: Session) -> Result<Response, Failure> {
    Err(Failure::NotFound("Not there yet.".to_owned()))
}

/// `GET /index/{id}`.
pub(crate) async fn detector(State(_web): State<Arc<Web>>, _session: Session) -> Result<Response, Failure> {
    Err(Failure::NotFound("Not there yet.".to_owned()))
}
