//! For tests only: container images made from nothing, and private instances of real container engines.
//!
//! ```text
//! let image = Image::busybox("example.test/app:v1").file("/opt/tool", 0o755, bytes).label("team", "x");
//! let mut engine = engines::Podman::start();          // or Runc, Containerd, Docker; or engines::all()
//! engine.load(&image);
//! let container = engine.run(&Run::new("web", &image).command(&["sleep", "1000"]));
//! let output = engine.exec(&container, &["/opt/tool"]);
//! let cgroup = proc::cgroup(container.pid);           // path and id, as a sensor reports them
//! engine.restart(&container);                          // same root filesystem, new init
//! engine.remove(&container);                           // what is left is removed when the engine is dropped
//! ```
//!
//! Nothing here touches the network or an engine's default directories. What goes wrong panics with the command and its
//! output: a test that needs root or an engine must fail when it is missing.

#![forbid(unsafe_code)]

pub mod command;
pub mod engines;
pub mod image;
pub mod proc;

pub use engines::{Container, Engine, Run};
pub use image::Image;

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A name that no other test on this machine uses.
pub fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", process::id())
}
