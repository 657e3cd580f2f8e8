//! The server from outside: REST and gRPC calls over a real store.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod changes;
mod config;
mod findings;
mod grpc;
mod mistakes;
mod notify;
mod openapi;
mod pages;
mod schema;
mod socket;
mod support;
