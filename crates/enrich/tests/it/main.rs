//! The crate from outside: containers of real engines, and files in real overlay mounts. Needs root.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod containers_files;
mod containers_real;
mod engines;
mod hashing;
mod layers;
mod matrix;
mod order;
mod overlay;
mod pipeline;
mod podman_sqlite;
mod scripts;
mod unread;
