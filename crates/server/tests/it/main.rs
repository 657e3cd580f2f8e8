//! The server from outside: REST and gRPC calls over a real store.

mod changes;
mod config;
mod findings;
mod grpc;
mod mistakes;
mod openapi;
mod schema;
mod socket;
mod support;
