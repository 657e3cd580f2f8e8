//! Who calls: bearer tokens, roles, and what each role may do.
//!
//! There is no anonymous access, from loopback neither: every container with the host's network can reach loopback.

mod limiter;
mod token;

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use model::Timestamp;
use store::{CredentialKind, Store};

pub use limiter::Limiter;
pub(crate) use limiter::network;
pub(crate) use token::random_hex;
pub use token::{
    Holder, NewToken, TokenError, TokenInfo, create_token, first_start, list_tokens, login_link,
    open_session, redeem_login, revoke_token, session, session_end, token_holder,
};

use crate::status::{Code, Status};

/// What a caller may do, after SCC's `adminViewer`, `adminEditor` and `admin`. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read findings and configuration.
    Viewer,
    /// Also change findings, sources and mute rules.
    Editor,
    /// Also notifications and access.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Editor, Self::Admin];

    /// As written on command lines and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }

    /// SCC's role that it corresponds to.
    pub fn scc(self) -> &'static str {
        match self {
            Self::Viewer => "roles/securitycenter.adminViewer",
            Self::Editor => "roles/securitycenter.adminEditor",
            Self::Admin => "roles/securitycenter.admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or(UnknownRole)
    }
}

/// A word that names no [`Role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of viewer, editor and admin")]
pub struct UnknownRole;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token or session.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where the call comes from.
    pub peer: IpAddr,
}

impl Caller {
    /// Who is behind a change, for the audit log.
    pub(crate) fn change(&self) -> store::Change<'_> {
        store::Change {
            who: &self.name,
            now: crate::app::now(),
        }
    }
}

/// Finds the caller of a request by its bearer token.
///
/// A peer that fails too often is told to wait. Valid tokens pass even then: a secret of 256 bits is not found by
/// guessing, so the limit is there to bound work and log lines, not to lock out the neighbors of an attacker.
pub(crate) fn bearer(
    store: &Store,
    limiter: &Limiter,
    headers: &HeaderMap,
    peer: IpAddr,
    now: Timestamp,
) -> Result<Caller, Status> {
    let found = match presented(headers) {
        Some(secret) => token::find(store, CredentialKind::Token, secret, now)?,
        None => None,
    };
    match found {
        Some(Holder { name, role, .. }) => Ok(Caller { name, role, peer }),
        None if limiter.failed(peer, now) => Err(Status::new(
            Code::Unauthenticated,
            "Request had invalid authentication credentials. Expected a token of `hullwatch token create` as \
             `authorization: Bearer TOKEN`.",
        )),
        None => Err(Status::new(
            Code::ResourceExhausted,
            "Too many requests without valid credentials from this address. Wait a minute.",
        )),
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
