//! Changes made from the pages: state, mute, security marks.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{Failure, Web, login::Form, session::Session};

/// `POST /findings/actions`.
pub(crate) async fn actions(State(_web): State<Arc<Web>>, session: Session, form: Form) -> Result<Response, Failure> {
    session.check_csrf(form.get("csrf"))?;
    let _ = form.all("name").count();
    Err(Failure::NotFound("Not there yet.".to_owned()))
}

/// `POST /findings/marks`.
pub(crate) async fn marks(State(_web): State<Arc<Web>>, session: Session, form: Form) -> Result<Response, Failure> {
    session.check_csrf(form.get("csrf"))?;
    Err(Failure::NotFound("Not there yet.".to_owned()))
}
