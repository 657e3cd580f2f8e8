//! What `/proc` tells of a process that nobody announced, or that was forgotten.

use std::os::fd::OwnedFd;

use model::{
    Text,
    event::{Exec, Namespaces, ProcessKey},
    limits::{ARGV_BYTES_MAX, ENV_BYTES_MAX},
    proc_files::{self, ProcFiles, TICK_NS},
};

use crate::{proc, script::facts_of};

/// The process runs, and its pid is not another one's by now.
pub(crate) fn is(key: ProcessKey) -> bool {
    // Both sources round down to a clock tick.
    proc::parent_and_start(key.pid)
        .is_some_and(|(_, start_ns)| start_ns / TICK_NS == key.start_ns / TICK_NS)
}

/// A process and its program, as if it had been running when the watch began. `None` when it is gone.
pub(crate) fn exec(key: ProcessKey, mnt_namespace: u32) -> Option<(Exec, OwnedFd)> {
    let pid = key.pid;
    let file = proc::open_link(pid, "exe")?;
    let read = |name: &str, bytes_max: usize| {
        proc_reader::read(pid, name, bytes_max as u64).unwrap_or_default()
    };
    let told = proc_files::exec(
        pid,
        &ProcFiles {
            status: &proc::read_small(&format!("/proc/{pid}/status"))?,
            cmdline: &read("cmdline", ARGV_BYTES_MAX),
            environ: &read("environ", ENV_BYTES_MAX),
            comm: &proc::read_small(&format!("/proc/{pid}/comm")).unwrap_or_default(),
        },
    );
    let exec = Exec {
        file: facts_of(&file, Text::default()),
        cwd: Text::from(proc_reader::link(pid, "cwd").unwrap_or_default()),
        namespaces: Namespaces {
            mnt: mnt_namespace,
            ..Namespaces::default()
        },
        ..told
    };
    // It was the same process all the time.
    is(key).then_some((exec, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_start() {
        let pid = std::process::id();
        let (_, start_ns) = proc::parent_and_start(pid).unwrap();
        // The kernel's other sources have more digits.
        let start_ns = start_ns + 1_234_567;
        assert!(is(ProcessKey { pid, start_ns }));
        let start_ns = start_ns + TICK_NS;
        assert!(!is(ProcessKey { pid, start_ns }));
    }
}
