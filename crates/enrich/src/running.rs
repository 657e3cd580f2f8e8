//! What `/proc` tells of a process that nobody announced, or that was forgotten.

use std::{io::Read, os::fd::OwnedFd};

use model::{
    Text,
    event::{Credentials, Exec, Namespaces, ProcessKey},
    limits::{ARGV_BYTES_MAX, ARGV_COUNT_MAX, ENV_BYTES_MAX, ENV_COUNT_MAX},
};

use crate::{proc, script::facts_of};

/// The process runs, and its pid is not another one's by now.
pub(crate) fn is(key: ProcessKey) -> bool {
    // Both sources round down to a clock tick.
    proc::parent_and_start(key.pid)
        .is_some_and(|(_, start_ns)| start_ns / proc::TICK_NS == key.start_ns / proc::TICK_NS)
}

/// A process and its program, as if it had been running when the watch began. `None` when it is gone.
pub(crate) fn exec(key: ProcessKey, mnt_namespace: u32) -> Option<(Exec, OwnedFd)> {
    let pid = key.pid;
    let file = proc::open_link(pid, "exe")?;
    let (parent, _) = proc::parent_and_start(pid)?;
    let status = proc::read_small(&format!("/proc/{pid}/status"))?;
    let status = String::from_utf8_lossy(&status);
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.unwrap_or_default().split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let (uids, gids) = (numbers("Uid:"), numbers("Gid:"));
    let number = |numbers: &[u32], at: usize| numbers.get(at).copied().unwrap_or_default();
    let (args, args_truncated) = strings(pid, "cmdline", ARGV_BYTES_MAX, ARGV_COUNT_MAX);
    let (env, env_truncated) = strings(pid, "environ", ENV_BYTES_MAX, ENV_COUNT_MAX);
    let variable = |text: Text| {
        let mut parts = text.as_bytes().splitn(2, |&byte| byte == b'=');
        let mut part = || Text::from(parts.next().unwrap_or_default());
        (part(), part())
    };
    let link = |name| rustix::fs::readlink(format!("/proc/{pid}/{name}"), Vec::new()).ok();
    let comm = proc::read_small(&format!("/proc/{pid}/comm")).unwrap_or_default();
    let exec = Exec {
        file: facts_of(&file, Text::default()),
        args,
        args_truncated,
        env: env.into_iter().map(variable).collect(),
        env_truncated,
        cwd: link("cwd").map_or(Text::default(), |cwd| Text(cwd.into_bytes())),
        comm: Text::from(comm.strip_suffix(b"\n").unwrap_or(&comm)),
        parent: ProcessKey {
            pid: parent,
            start_ns: 0,
        },
        pid_in_namespace: numbers("NSpid:").last().copied().unwrap_or(pid),
        credentials: Credentials {
            uid: number(&uids, 0),
            euid: number(&uids, 1),
            gid: number(&gids, 0),
            egid: number(&gids, 1),
            cap_effective: 0,
        },
        namespaces: Namespaces {
            mnt: mnt_namespace,
            ..Namespaces::default()
        },
        already_running: true,
        ..Exec::default()
    };
    // It was the same process all the time.
    is(key).then_some((exec, file))
}

/// The strings of a block of NUL-ended strings, and whether it was cut.
fn strings(pid: u32, name: &str, bytes_max: usize, count_max: usize) -> (Vec<Text>, bool) {
    let mut block = Vec::new();
    if let Ok(file) = std::fs::File::open(format!("/proc/{pid}/{name}")) {
        let _ = file.take(bytes_max as u64).read_to_end(&mut block);
    }
    if block.is_empty() {
        return (Vec::new(), false);
    }
    let strings = block.strip_suffix(b"\0").unwrap_or(&block);
    let mut strings = strings.split(|&byte| byte == 0).map(Text::from);
    let kept: Vec<Text> = strings.by_ref().take(count_max).collect();
    let is_cut = strings.next().is_some() || block.len() >= bytes_max;
    (kept, is_cut)
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
        let start_ns = start_ns + proc::TICK_NS;
        assert!(!is(ProcessKey { pid, start_ns }));
    }
}
