//! Runs programs the way an engine does, in an overlay and a mount namespace of its own: for the agent to see whether it sees.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Signal, chdir, chroot, set_parent_process_death_signal},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Pause after the first run, which may come before the new mounts are watched. Each is longer than the one before.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Mounts over `directory`, in a mount namespace that this process enters for good, and runs `commands` there again and again
/// for `time`, in an image of `files` (name and bytes). For a process that was started for this alone and has one thread.
///
/// # Errors
/// When a mount is refused (it takes CAP_SYS_ADMIN and overlayfs), or a program does not run or fails.
pub fn run_in_overlay(
    directory: &Path,
    files: &[(&str, &[u8])],
    commands: &[[&str; 2]],
    time: Duration,
) -> io::Result<()> {
    // Nothing of it shall be left for the next agent to find, however this one ends.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // SAFETY: only the mount namespace is unshared. Descriptors, which the function is unsafe for, stay as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    // What is mounted from here on stays in this namespace, and goes with it.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount(
        "hullwatch",
        directory,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"size=1m,mode=0700",
    )?;
    // Relative paths in the options: a directory may have commas and colons in its name.
    chdir(directory)?;
    for name in ["image", "upper", "work", "root"] {
        fs::create_dir(name)?;
    }
    for (name, bytes) in files {
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(Path::new("image").join(name))?
            .write_all(bytes)?;
    }
    mount(
        "hullwatch",
        "root",
        "overlay",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"lowerdir=image,upperdir=upper,workdir=work",
    )?;
    chroot("root")?;
    chdir("/")?;
    let end = Instant::now() + time;
    let mut pause = PAUSE_MIN;
    loop {
        for [program, argument] in commands {
            let mut command = Command::new(program);
            command.arg(argument);
            // SAFETY: one system call, which is all that may be done between fork and exec.
            unsafe {
                command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
            }
            let status = command.status()?;
            if !status.success() {
                return Err(io::Error::other(format!("{program} ended with {status}")));
            }
        }
        if Instant::now() + pause >= end {
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = (pause * 5).min(PAUSE_MAX);
    }
}
