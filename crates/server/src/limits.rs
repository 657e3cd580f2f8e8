//! Every bound on what a client may make the server hold or do, with the reason for its size.

use std::time::Duration;

/// Bytes of one request's body or gRPC message. The largest finding that the agent writes is a tenth of it.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Time from the end of the headers to the end of the answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for a TLS handshake, for a connection's first request, for the headers of a request, and for a form that follows
/// them.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections open at a time. Beyond it new ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 1024;

/// Calls that work on the store at a time; the others wait. More than a handful gains nothing on one disk.
pub const CALLS_MAX: usize = 16;

/// Of these, the calls of one token and the sessions that it opened, so that slow questions of one keep no other out.
pub const CALLS_PER_CALLER_MAX: usize = 4;

/// Credentials looked up at a time, apart from the calls. Each look-up is one row, found by its key.
pub const SIGN_INS_MAX: usize = 4;

/// Connections open at a time from one address (a /64 of IPv6), so that one cannot take all; more are closed at once. A
/// proxy with many users needs a fraction of it.
pub const CONNECTIONS_PER_PEER_MAX: usize = 256;

/// Bytes of a form of the pages. The largest names 500 findings, in some 80 KiB; the login's comes from anybody.
pub const FORM_BYTES_MAX: usize = 256 * 1024;

/// Concurrent streams of one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 128;

/// Time that calls under way are given when the server stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Failed authentications of one address in [`AUTH_WINDOW`].
pub const AUTH_FAILURES_MAX: u32 = 20;

/// Window of [`AUTH_FAILURES_MAX`].
pub const AUTH_WINDOW: Duration = Duration::from_secs(60);

/// Addresses told apart by the failure count.
pub const AUTH_PEERS_MAX: usize = 4096;

/// Exports at a time. Each reads the store for as long as its file lasts.
pub const EXPORTS_MAX: usize = 4;

/// Time that a reader of an export may take for one piece of it.
pub const EXPORT_PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// Findings of one piece: half a megabyte of common ones; of large ones `store::PAGE_BYTES_MAX`.
pub const EXPORT_PIECE_FINDINGS: usize = 100;
