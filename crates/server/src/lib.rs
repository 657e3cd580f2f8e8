//! The findings center: Security Command Center v2 over REST and gRPC on one port, for Google's own clients.
//!
//! Start with [`spawn`] (or [`serve`] inside a tokio runtime). `methods` declares every method once; `rest` and `grpc` are two thin
//! readings of that table; `service` holds the rules, each once; `auth` knows tokens and roles; `schema` is the wire format.
//! Pages join in `router`.
//!
//! Invariants: nothing is answered without a valid token; every change is in the audit log; every size and time
//! that a client can choose has a limit in [`limits`]. Work on the store runs on threads of its own.
//! Tested over real stores in `tests/it`, and with unmodified clients of three languages in `conformance/`.

#![forbid(unsafe_code)]

mod answer;
pub mod app;
pub mod auth;
mod grpc;
pub mod limits;
mod listen;
mod methods;
pub mod notify;
mod rest;
pub mod router;
mod schema;
pub mod service;
pub mod status;
pub mod web;

pub use listen::{Config, Error, Handle, TlsFiles, serve, spawn};
