//! The built program, from outside: its command line, and the watcher over real containers of real engines.
//!
//! These tests need root, runc, Podman, containerd, Docker, busybox-static and openssl (`make test` installs them), and fail
//! without them.

// Helpers of tests are outside of what clippy.toml allows to panic.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cli;
mod engines;
mod escape;
mod flood;
mod hostile;
mod later;
mod openssl;
mod provenance;
mod recording;
mod restart;
mod scripts;
mod serve;
mod short_lived;
mod simulations;
mod stimuli;
mod survival;
mod vanishing;
mod watcher;
