//! The sensor on real containers. Needs root, runc and a C compiler, and fails without them.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stderr, reason = "figures for whoever looks")]

mod container;
mod contents;
mod events;
mod scripts;
mod watch;

use std::sync::OnceLock;

use sensor_ebpf::Config;
use watch::Watch;

/// One that takes library loads from perf, as on kernels whose mappings the probes cannot tell.
fn watch_by_perf() -> &'static Watch {
    static WATCH: OnceLock<Watch> = OnceLock::new();
    WATCH.get_or_init(|| {
        Watch::start(Config {
            loads_by_perf: true,
            ..Config::default()
        })
    })
}

/// One sensor for all tests that do not need a special one. They tell their containers apart by control group.
fn watch() -> &'static Watch {
    static WATCH: OnceLock<Watch> = OnceLock::new();
    WATCH.get_or_init(|| Watch::start(Config::default()))
}
