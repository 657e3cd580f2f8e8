//! Bounded reads of engine files below the host's root, without following a link that a container could have made.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use model::limits::{DIRECTORY_ENTRIES_MAX, METADATA_BYTES_MAX, PATH_BYTES_MAX};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

/// The host's files.
#[derive(Debug)]
pub(super) struct HostFiles {
    root: PathBuf,
}

impl HostFiles {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The whole file `relative` below the engine's `directory`, both as the host names them.
    ///
    /// Links in `directory` are the administrator's and are followed, inside the host's root; below it none is. A file
    /// larger than [`METADATA_BYTES_MAX`] is refused, and so is anything but a regular file.
    pub(super) fn read(&self, directory: &Path, relative: &str) -> io::Result<(Vec<u8>, Stamp)> {
        let file = self.open(directory, relative)?;
        let stamp = stamp_of(&file)?;
        if stamp.size > METADATA_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut bytes = Vec::new();
        file.take(METADATA_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > METADATA_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok((bytes, stamp))
    }

    /// The last `bytes_max` bytes of a file, and whether that is all of it. No link at all is followed on the way: a container
    /// that has the host's log directory could have made it.
    pub(super) fn read_tail(&self, path: &str, bytes_max: u64) -> io::Result<(Vec<u8>, bool)> {
        let file = self.open(Path::new("/"), path.trim_start_matches('/'))?;
        let start = file.metadata()?.len().saturating_sub(bytes_max);
        let mut bytes = Vec::new();
        (&file).seek(SeekFrom::Start(start))?;
        (&file).take(bytes_max).read_to_end(&mut bytes)?;
        Ok((bytes, start == 0))
    }

    /// The stamp of a file, when it is there.
    pub(super) fn stamp(&self, directory: &Path, relative: &str) -> Option<Stamp> {
        stamp_of(&self.open(directory, relative).ok()?).ok()
    }

    /// Opens a regular file for reading, under the rules of [`HostFiles::read`].
    pub(super) fn open(&self, directory: &Path, relative: &str) -> io::Result<File> {
        let directory = self.open_directory(directory)?;
        // Nonblocking: opening a pipe must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&directory, relative, flags, Mode::empty(), resolve)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        Ok(File::from(file))
    }

    /// Names in a directory, at most [`DIRECTORY_ENTRIES_MAX`]; none when it cannot be read.
    pub(super) fn list(&self, directory: &Path) -> Vec<String> {
        let Ok(entries) = self
            .open_directory(directory)
            .and_then(|fd| Ok(Dir::read_from(fd)?))
        else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .take(DIRECTORY_ENTRIES_MAX)
            .collect()
    }

    /// Where the link `name` in `directory` points, not followed.
    pub(super) fn link(&self, directory: &Path, name: &str) -> Option<PathBuf> {
        let directory = self.open_directory(directory).ok()?;
        let target = readlinkat(&directory, name, Vec::new()).ok()?;
        target.into_string().ok().map(PathBuf::from)
    }

    fn open_directory(&self, directory: &Path) -> io::Result<OwnedFd> {
        let inside = directory.strip_prefix("/").unwrap_or(directory);
        if inside.as_os_str().len() > PATH_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename));
        }
        let inside = if inside.as_os_str().is_empty() {
            Path::new(".")
        } else {
            inside
        };
        let root = File::open(&self.root)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&root, inside, flags, Mode::empty(), resolve)?)
    }
}

fn stamp_of(file: &File) -> io::Result<Stamp> {
    let stat = fstat(file)?;
    Ok(Stamp {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        ctime: (stat.st_ctime, stat.st_ctime_nsec),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_only_where_no_container_can_make_them() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("data/engine/c1")).unwrap();
        std::fs::create_dir_all(at("var/lib")).unwrap();
        std::fs::write(at("secret"), "host").unwrap();
        std::fs::write(at("data/engine/c1/config.json"), "{}").unwrap();
        // The administrator moved the engine's directory: absolute, as seen on the host.
        symlink("/data/engine", at("var/lib/engine")).unwrap();
        symlink("/secret", at("data/engine/c1/absolute")).unwrap();
        symlink("../../../secret", at("data/engine/c1/relative")).unwrap();
        symlink("/data/engine/c1", at("data/engine/c2")).unwrap();

        let files = HostFiles::new(root.path().to_owned());
        let engine = Path::new("/var/lib/engine");
        assert_eq!(files.read(engine, "c1/config.json").unwrap().0, b"{}");
        for hostile in [
            "c1/absolute",
            "c1/relative",
            "c2/config.json",
            "../../secret",
            "c1",
        ] {
            assert!(files.read(engine, hostile).is_err(), "{hostile}");
        }
        assert_eq!(
            files.link(engine, "c2"),
            Some(PathBuf::from("/data/engine/c1"))
        );
    }

    #[test]
    fn a_pipe_does_not_block_and_a_large_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        File::create(root.path().join("large"))
            .unwrap()
            .set_len(METADATA_BYTES_MAX + 1)
            .unwrap();
        let files = HostFiles::new(root.path().to_owned());
        for name in ["pipe", "large", "missing"] {
            assert!(files.read(Path::new("/"), name).is_err(), "{name}");
        }
    }
}
