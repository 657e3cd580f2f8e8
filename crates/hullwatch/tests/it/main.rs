//! The built program, from outside: its command line, and the watcher over real containers of real engines.
//!
//! These tests need root, runc, Podman, containerd, Docker, busybox-static and openssl (`make test` installs them), and fail
//! without them.

mod cli;
mod engines;
mod hostile;
mod simulations;
mod survival;
mod watcher;
