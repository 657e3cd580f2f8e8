//! The server from outside: REST and gRPC calls over a real store.

mod findings;
mod schema;
mod support;
