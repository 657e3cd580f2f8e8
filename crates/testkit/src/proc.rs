//! What a sensor would report about a process, read from `/proc`.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Control group of a process, as (id, path): in the unified hierarchy when the process has one there, else in `pids`.
///
/// # Panics
/// When the process is gone.
pub fn cgroup(pid: u32) -> (u64, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process runs");
    let path_in = |prefix: &str| {
        text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.strip_prefix(prefix).map(str::to_owned)
        })
    };
    let unified = path_in(":").filter(|path| path != "/");
    let (path, hierarchies) = match unified {
        Some(path) => (path, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]),
        None => (
            path_in("pids:").unwrap_or_else(|| "/".to_owned()),
            ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"],
        ),
    };
    // The inode number of a cgroup's directory is its id.
    let id = hierarchies.iter().find_map(|hierarchy| {
        let directory = Path::new(hierarchy).join(path.trim_start_matches('/'));
        Some(fs::metadata(directory).ok()?.ino())
    });
    (id.unwrap_or(0), path)
}

/// Inode number of a namespace (`mnt`, `pid`, ...) of a process.
///
/// # Panics
/// When the process is gone.
pub fn namespace(pid: u32, kind: &str) -> u32 {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("the process runs");
    link.to_string_lossy()
        .trim_start_matches(|character: char| !character.is_ascii_digit())
        .trim_end_matches(']')
        .parse()
        .expect("a namespace link ends in [NUMBER]")
}

/// Pids of all processes of a mount namespace.
pub fn pids_in_mnt_namespace(mnt_namespace: u32) -> Vec<u32> {
    let wanted = format!("mnt:[{mnt_namespace}]");
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            fs::read_link(format!("/proc/{pid}/ns/mnt"))
                .is_ok_and(|link| link.as_os_str() == wanted.as_str())
        })
        .collect()
}
