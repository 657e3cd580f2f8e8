//! The watcher that works on a state directory: there is at most one, and a simulation may have to freeze it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use model::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use store::{Query, Store};

/// In the state directory: locked by the watcher for as long as it lives, and holding its pid.
const LOCK_FILE: &str = "watcher.lock";

/// A watcher's claim on its state directory, until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Claims the state directory. Fails when another watcher works on it.
    pub(crate) fn take(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another watcher (pid {}) works on {}: stop it, or use another --state-dir",
                read_pid(&mut file)
                    .map_or("unknown".to_owned(), |pid| pid.as_raw_nonzero().to_string()),
                state_dir.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

/// The watcher of a state directory, running or not.
#[derive(Debug)]
pub(crate) struct Watcher {
    state_dir: PathBuf,
}

impl Watcher {
    /// The watcher that works on this directory, if any.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
        }
    }

    /// Stops it (SIGSTOP) until the returned value is dropped.
    pub(crate) fn freeze(&self) -> Result<Frozen> {
        let process = self.process()?.with_context(|| {
            format!(
                "this simulation freezes the running watcher for a moment, and none works on {}: start `hullwatch run` \
                 first, or name its directory with --state-dir",
                self.state_dir.display()
            )
        })?;
        pidfd_send_signal(&process, Signal::STOP).context("freezing the watcher")?;
        Ok(Frozen { process })
    }

    /// Whether there is one.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.process(), Ok(Some(_)))
    }

    /// The name of a finding about a container, once it is stored.
    pub(crate) fn finding(&self, category: &str, container: &str) -> Option<String> {
        self.first(format!(
            "category=\"{category}\" AND containers.name=\"{container}\""
        ))
    }

    /// The name of a finding of something that happened since then, once it is stored.
    pub(crate) fn finding_since(&self, category: &str, since: Timestamp) -> Option<String> {
        self.first(format!(
            "category=\"{category}\" AND eventTime>=\"{since}\""
        ))
    }

    fn first(&self, filter: String) -> Option<String> {
        let query = Query {
            filter,
            ..Query::default()
        };
        // A store that cannot be read just now is asked again.
        let store = Store::open_read_only(&self.state_dir).ok()?;
        let found = store.list(&query).ok()?.results.into_iter().next()?;
        Some(found.finding.name)
    }

    fn process(&self) -> Result<Option<OwnedFd>> {
        let path = self.state_dir.join(LOCK_FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        let Some(pid) = read_pid(&mut file) else {
            return Ok(None);
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(None);
        };
        // Only after the pidfd is open: as long as the lock is held, the pid has not been given to somebody else.
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Ok(Some(process)),
            Ok(()) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("asking for the watcher's lock"),
        }
    }
}

/// A watcher that does not run, until dropped.
pub(crate) struct Frozen {
    process: OwnedFd,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.process, Signal::CONT);
    }
}

fn read_pid(file: &mut File) -> Option<Pid> {
    const DIGITS_MAX: u64 = 16;
    let mut text = String::new();
    file.take(DIGITS_MAX).read_to_string(&mut text).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn one_watcher_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let watcher = Watcher::new(directory.path());
        assert!(!watcher.is_running());
        let lock = Lock::take(directory.path()).unwrap();
        assert!(watcher.is_running());
        let made = fs::metadata(directory.path().join(LOCK_FILE)).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
        let refused = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("pid {}", std::process::id())),
            "{refused}"
        );
        drop(lock);
        assert!(!watcher.is_running());
        Lock::take(directory.path()).unwrap();
    }
}
