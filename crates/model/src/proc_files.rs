//! Files of `/proc/PID`, read into what an exec would have told. The sensor does it for processes that ran before the watch, the
//! enricher for those that nobody announced.

use crate::{
    Text,
    event::{Credentials, Exec, ProcessKey},
    limits::{ARGV_BYTES_MAX, ARGV_COUNT_MAX, ENV_BYTES_MAX, ENV_COUNT_MAX},
};

/// Bytes of the files of one process. What could not be read is empty; `cmdline` and `environ` are read up to
/// [`ARGV_BYTES_MAX`] and [`ENV_BYTES_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct ProcFiles<'a> {
    /// proc_pid_status(5).
    pub status: &'a [u8],
    /// proc_pid_cmdline(5).
    pub cmdline: &'a [u8],
    /// proc_pid_environ(5): as it was at the exec.
    pub environ: &'a [u8],
    /// proc_pid_comm(5).
    pub comm: &'a [u8],
}

/// What the files tell. The start of the parent is 0, and what other files tell (program, working directory, namespaces, standard
/// streams) is left at its default.
pub fn exec(pid: u32, files: &ProcFiles<'_>) -> Exec {
    let status = String::from_utf8_lossy(files.status);
    let field = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
    };
    let numbers = |name: &str| -> Vec<u32> {
        let words = field(name).split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let (uids, gids) = (numbers("Uid:"), numbers("Gid:"));
    let number = |numbers: &[u32], at: usize| numbers.get(at).copied().unwrap_or_default();
    Exec {
        args: arguments(files.cmdline),
        args_truncated: files.cmdline.len() >= ARGV_BYTES_MAX
            || strings(files.cmdline).count() > ARGV_COUNT_MAX,
        env: Text::from(files.environ),
        env_truncated: files.environ.len() >= ENV_BYTES_MAX
            || strings(files.environ).count() > ENV_COUNT_MAX,
        comm: Text::from(files.comm.strip_suffix(b"\n").unwrap_or(files.comm)),
        parent: ProcessKey {
            pid: number(&numbers("PPid:"), 0),
            start_ns: 0,
        },
        pid_in_namespace: numbers("NSpid:").last().copied().unwrap_or(pid),
        credentials: Credentials {
            uid: number(&uids, 0),
            euid: number(&uids, 1),
            gid: number(&gids, 0),
            egid: number(&gids, 1),
            cap_effective: u64::from_str_radix(field("CapEff:").trim(), 16).unwrap_or_default(),
        },
        already_running: true,
        ..Exec::default()
    }
}

/// Times in `/proc` are told in steps of so many nanoseconds: `USER_HZ` is 100 on every architecture that Linux still supports
/// but Alpha.
pub const TICK_NS: u64 = 10_000_000;

/// Parent and start time (nanoseconds since boot, in steps of [`TICK_NS`]) from a proc_pid_stat(5).
pub fn parent_and_start(stat: &[u8]) -> Option<(u32, u64)> {
    // comm is in parentheses and may hold anything, parentheses too: the last one ends it.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let ticks: u64 = fields.nth(17)?.parse().ok()?;
    Some((parent, ticks.saturating_mul(TICK_NS)))
}

/// The strings of a block of NUL-ended strings, up to [`ARGV_COUNT_MAX`].
pub fn arguments(block: &[u8]) -> Vec<Text> {
    strings(block)
        .take(ARGV_COUNT_MAX)
        .map(Text::from)
        .collect()
}

/// The variables of a block of NUL-ended strings, up to [`ENV_COUNT_MAX`]. One without `=` has an empty value.
pub fn environment(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    strings(block).take(ENV_COUNT_MAX).map(|variable| {
        let mut parts = variable.splitn(2, |&byte| byte == b'=');
        let mut part = || parts.next().unwrap_or_default();
        (part(), part())
    })
}

fn strings(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let strings = block.strip_suffix(b"\0").unwrap_or(block);
    let is_there = !block.is_empty();
    strings.split(|&byte| byte == 0).filter(move |_| is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_files() {
        let files = ProcFiles {
            status: b"Name:\tsh\nPPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t90\t4\nCapEff:\t00000000a80425fb\n",
            cmdline: b"sh\0-c\0\0",
            environ: b"A=b=c\0EMPTY\0",
            comm: b"sh\n",
        };
        let found = exec(90, &files);
        assert_eq!(found.args, ["sh", "-c", ""].map(Text::from));
        let env: Vec<_> = environment(found.env.as_bytes()).collect();
        assert_eq!(env, [(&b"A"[..], &b"b=c"[..]), (b"EMPTY", b"")]);
        assert!(!found.args_truncated && !found.env_truncated);
        assert_eq!((found.parent.pid, found.pid_in_namespace), (7, 4));
        let credentials = found.credentials;
        assert_eq!((credentials.uid, credentials.euid), (1, 2));
        assert_eq!((credentials.gid, credentials.egid), (5, 6));
        assert_eq!(credentials.cap_effective, 0xa804_25fb);
        assert_eq!(found.comm, Text::from("sh"));
    }

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        let stat = b"7 (a) S 1 (b\xff) R 42 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 1234 9 9\n";
        assert_eq!(parent_and_start(stat), Some((42, 12_340_000_000)));
        assert_eq!(parent_and_start(b"7 (a) R 42 7"), None);
        assert_eq!(parent_and_start(b""), None);
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_cut_is_said() {
        let none = ProcFiles {
            status: b"",
            cmdline: b"",
            environ: b"",
            comm: b"",
        };
        let found = exec(90, &none);
        assert!(found.args.is_empty() && found.env.is_empty());
        assert_eq!(found.pid_in_namespace, 90);
        let many = b"x\0".repeat(ARGV_COUNT_MAX + 1);
        let cut = exec(
            90,
            &ProcFiles {
                cmdline: &many,
                ..none
            },
        );
        assert_eq!((cut.args.len(), cut.args_truncated), (ARGV_COUNT_MAX, true));
    }
}
