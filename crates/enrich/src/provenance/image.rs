//! What an image ships at a path: a walk over its layer directories with overlayfs's own rules.
//!
//! Follows `ovl_lookup` (fs/overlayfs/namei.c): whiteouts and opaque directories hide what is below, redirects and
//! metadata-only copies lead to other places in the layers below. The layers belong to the image, which is hostile too:
//! each step opens one component beneath a directory that is already open, and never through a symlink.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::SystemTime,
};

use model::{
    Timestamp,
    limits::{LAYERS_MAX, PATH_BYTES_MAX},
};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, getxattr, openat, readlinkat},
    io::Errno,
};

use crate::proc::key_of;

/// How long before its image is looked at a container can have been seen.
const SEEN_BEFORE_MAX_NS: u64 = 10_000_000_000;

/// Symlinks followed for one path, as many as the kernel follows.
const SYMLINKS_MAX: usize = 40;

/// The read-only layers of an image.
#[derive(Debug)]
pub struct Layers {
    /// The topmost first.
    lower: Vec<Layer>,
    /// Reached only through redirects of metadata-only files.
    data_only: Vec<Layer>,
    /// `trusted.overlay.` or `user.overlay.`.
    attribute_prefix: &'static str,
    /// From when on they were in use.
    since: Timestamp,
}

#[derive(Debug)]
struct Layer {
    path: PathBuf,
    directory: OwnedFd,
}

/// A regular file of an image.
#[derive(Debug)]
pub struct ImageFile {
    /// Open for reading.
    pub fd: OwnedFd,
    /// The layer's directory on the host.
    pub layer: PathBuf,
}

/// A layer, or a file in it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("reading image layers")]
pub struct Unreadable(#[from] Errno);

/// A directory of the merged tree: where it exists, by layer, the topmost first.
type Merged<'a> = Vec<Place<'a>>;

/// One directory in one layer.
struct Place<'a> {
    layer: usize,
    directory: Opened<'a>,
}

enum Opened<'a> {
    Layer(&'a OwnedFd),
    Own(OwnedFd),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        match self {
            Self::Layer(fd) => fd.as_fd(),
            Self::Own(fd) => fd.as_fd(),
        }
    }
}

/// What a name is in a merged directory.
enum Found<'a> {
    Nothing,
    Directory(Merged<'a>),
    Regular(ImageFile),
    Symlink(Vec<u8>),
    Special,
}

impl Layers {
    /// Opens layer directories given by their paths on the host, the topmost first. `since` is when a container was seen
    /// to use them: what is taken out of them later makes that what they lack is not known.
    ///
    /// # Errors
    /// When there are none, too many, or one cannot be opened: an image with a layer missing would give wrong verdicts.
    pub fn open(
        lower: &[PathBuf],
        data_only: &[PathBuf],
        is_userxattr: bool,
        since: Timestamp,
    ) -> Result<Self, Unreadable> {
        if lower.is_empty() || lower.len() + data_only.len() > LAYERS_MAX {
            return Err(Unreadable(Errno::INVAL));
        }
        Ok(Self {
            since: in_use_since(since),
            lower: open_layers(lower)?,
            data_only: open_layers(data_only)?,
            attribute_prefix: if is_userxattr {
                "user.overlay."
            } else {
                "trusted.overlay."
            },
        })
    }

    /// The layers' directories, the topmost first, data-only ones last.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.lower
            .iter()
            .chain(&self.data_only)
            .map(|layer| layer.path.as_path())
    }

    /// The regular file that the image ships at an absolute path without symlinks in its directories.
    ///
    /// When the image ships a symlink there, what it leads to inside the image is what a reader of that path would have
    /// got from the image, and is what is returned. A directory, device, fifo or socket is no file.
    ///
    /// # Errors
    /// When a layer cannot be read: the answer is not known then.
    pub fn find(&self, path: &[u8]) -> Result<Option<ImageFile>, Unreadable> {
        let mut directory = self.root();
        let mut components = components(path).peekable();
        while let Some(name) = components.next() {
            if components.peek().is_some() {
                match self.look_up(&directory, name)? {
                    Found::Directory(inner) => directory = inner,
                    _ => return Ok(None),
                }
                continue;
            }
            return match self.look_up(&directory, name)? {
                Found::Regular(file) => Ok(Some(file)),
                Found::Symlink(target) => {
                    let parent = path.get(..path.len() - name.len()).unwrap_or(b"/");
                    self.follow(&[parent, b"/", &target].concat(), &target)
                }
                Found::Nothing | Found::Directory(_) | Found::Special => Ok(None),
            };
        }
        Ok(None)
    }

    /// The regular file at the end of a path, symlinks followed inside the image.
    fn follow(&self, relative: &[u8], target: &[u8]) -> Result<Option<ImageFile>, Unreadable> {
        let path = if target.starts_with(b"/") {
            target
        } else {
            relative
        };
        let mut left: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        // Each directory on the way, for `..`. The root's parent is the root.
        let mut above = vec![self.root()];
        for _ in 0..SYMLINKS_MAX * 8 {
            let Some(name) = left.pop_front() else {
                return Ok(None);
            };
            if name == b".." {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            let Some(directory) = above.last() else {
                return Ok(None);
            };
            match self.look_up(directory, &name)? {
                Found::Directory(inner) => above.push(inner),
                Found::Regular(file) => return Ok(left.is_empty().then_some(file)),
                Found::Symlink(target) => {
                    if target.starts_with(b"/") {
                        above.truncate(1);
                    }
                    let before = left;
                    left = components(&target).map(<[u8]>::to_vec).collect();
                    left.extend(before);
                    if left.len() > PATH_BYTES_MAX {
                        return Ok(None);
                    }
                }
                Found::Nothing | Found::Special => return Ok(None),
            }
        }
        Ok(None)
    }

    fn root(&self) -> Merged<'_> {
        let places = self.lower.iter().enumerate().map(|(layer, opened)| Place {
            layer,
            directory: Opened::Layer(&opened.directory),
        });
        places.collect()
    }

    /// One name in a merged directory.
    fn look_up<'a>(&'a self, parent: &Merged<'a>, name: &[u8]) -> Result<Found<'a>, Unreadable> {
        let mut merged: Merged<'a> = Vec::new();
        // Where to look in the next layer: in the parent, under a name that a redirect may have changed, or from the
        // layer's root, after an absolute redirect.
        let mut name = name.to_vec();
        let mut from_root: Option<Vec<u8>> = None;
        for layer in 0..self.lower.len() {
            let entry = match &from_root {
                Some(path) => self.entry_from_root(layer, path)?,
                None => match parent.iter().find(|place| place.layer == layer) {
                    Some(place) => {
                        let entry = self.entry(&place.directory, &name)?;
                        if entry.is_none() {
                            self.check_unchanged(&place.directory)?;
                        }
                        entry
                    }
                    None => continue,
                },
            };
            let Some((fd, stat)) = entry else {
                continue;
            };
            if self.is_whiteout(&fd, &stat) {
                break;
            }
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind != FileType::Directory {
                if merged.is_empty() {
                    return self.not_a_directory(kind, layer, fd, parent, name, from_root);
                }
                break;
            }
            let is_opaque = self
                .attribute(&fd, "opaque")
                .is_some_and(|value| value == b"y");
            let redirect = self.attribute(&fd, "redirect");
            merged.push(Place {
                layer,
                directory: Opened::Own(fd),
            });
            if is_opaque {
                break;
            }
            apply_redirect(redirect, &mut name, &mut from_root);
        }
        Ok(if merged.is_empty() {
            Found::Nothing
        } else {
            Found::Directory(merged)
        })
    }

    fn not_a_directory<'a>(
        &'a self,
        kind: FileType,
        layer: usize,
        fd: OwnedFd,
        parent: &Merged<'a>,
        mut name: Vec<u8>,
        mut from_root: Option<Vec<u8>>,
    ) -> Result<Found<'a>, Unreadable> {
        if kind == FileType::Symlink {
            return Ok(Found::Symlink(
                readlinkat(&fd, "", Vec::new())?.into_bytes(),
            ));
        }
        if kind != FileType::RegularFile {
            return Ok(Found::Special);
        }
        if self.attribute(&fd, "metacopy").is_none() {
            return Ok(Found::Regular(self.open_file(layer, &fd)?));
        }
        // Only the metadata is here: the bytes are in a layer below.
        apply_redirect(self.attribute(&fd, "redirect"), &mut name, &mut from_root);
        for below in layer + 1..self.lower.len() {
            let entry = match &from_root {
                Some(path) => self.entry_from_root(below, path)?,
                None => match parent.iter().find(|place| place.layer == below) {
                    Some(place) => self.entry(&place.directory, &name)?,
                    None => continue,
                },
            };
            let Some((fd, stat)) = entry else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                break;
            }
            if self.attribute(&fd, "metacopy").is_none() {
                return Ok(Found::Regular(self.open_file(below, &fd)?));
            }
            apply_redirect(self.attribute(&fd, "redirect"), &mut name, &mut from_root);
        }
        let Some(path) = from_root else {
            return Err(Unreadable(Errno::IO));
        };
        for data in &self.data_only {
            if let Some((fd, stat)) = walk(&data.directory, &path)?
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            {
                return Ok(Found::Regular(open_in(data, &fd)?));
            }
        }
        Err(Unreadable(Errno::IO))
    }

    fn open_file(&self, layer: usize, fd: &OwnedFd) -> Result<ImageFile, Unreadable> {
        let layer = self.lower.get(layer).ok_or(Unreadable(Errno::INVAL))?;
        open_in(layer, fd)
    }

    fn entry(
        &self,
        directory: &Opened<'_>,
        name: &[u8],
    ) -> Result<Option<(OwnedFd, Stat)>, Unreadable> {
        open_name(directory, name)
    }

    fn entry_from_root(
        &self,
        layer: usize,
        path: &[u8],
    ) -> Result<Option<(OwnedFd, Stat)>, Unreadable> {
        match self.lower.get(layer) {
            Some(layer) => walk(&layer.directory, path),
            None => Ok(None),
        }
    }

    /// Layers never change while a container uses them. One that did is being deleted with its image, and what it lacks now
    /// it may have had.
    fn check_unchanged(&self, directory: &Opened<'_>) -> Result<(), Unreadable> {
        let changed = key_of(&fstat(directory)?).ctime_ns;
        if u64::try_from(changed).is_ok_and(|changed| changed > self.since.0) {
            return Err(Unreadable(Errno::STALE));
        }
        Ok(())
    }

    /// A character device 0:0, or since Linux 6.7 an empty file with an attribute.
    fn is_whiteout(&self, fd: &OwnedFd, stat: &Stat) -> bool {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == 0,
            FileType::RegularFile => stat.st_size == 0 && self.attribute(fd, "whiteout").is_some(),
            _ => false,
        }
    }

    fn attribute(&self, fd: &OwnedFd, name: &str) -> Option<Vec<u8>> {
        let name = format!("{}{name}", self.attribute_prefix);
        let mut value = vec![0; 256];
        // A descriptor opened with O_PATH has no attributes of its own; its magic link leads to the same file.
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let read = |value: &mut Vec<u8>| getxattr(link.as_str(), name.as_str(), &mut **value);
        let count = match read(&mut value) {
            Err(Errno::RANGE) => {
                value.resize(PATH_BYTES_MAX, 0);
                read(&mut value).ok()?
            }
            result => result.ok()?,
        };
        value.truncate(count);
        Some(value)
    }
}

fn apply_redirect(redirect: Option<Vec<u8>>, name: &mut Vec<u8>, from_root: &mut Option<Vec<u8>>) {
    let Some(redirect) = redirect else {
        return;
    };
    if redirect.starts_with(b"/") {
        *from_root = Some(redirect);
    } else if !redirect.is_empty() && !redirect.contains(&b'/') {
        // The same directory, another name.
        match from_root {
            Some(path) => {
                let keep = path
                    .iter()
                    .rposition(|&byte| byte == b'/')
                    .map_or(0, |at| at + 1);
                path.truncate(keep);
                path.extend_from_slice(&redirect);
            }
            None => *name = redirect,
        }
    }
}

/// When a container was seen, or somewhat later where clocks disagree: the times of events and of files follow one that is
/// set in different ways.
fn in_use_since(seen: Timestamp) -> Timestamp {
    let now = Timestamp::from(SystemTime::now());
    seen.clamp(Timestamp(now.0.saturating_sub(SEEN_BEFORE_MAX_NS)), now)
}

fn open_layers(paths: &[PathBuf]) -> Result<Vec<Layer>, Unreadable> {
    let open = |path: &PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Layer {
            directory: rustix::fs::open(path, flags, Mode::empty())?,
            path: path.clone(),
        })
    };
    paths.iter().map(open).collect()
}

fn open_in(layer: &Layer, fd: &OwnedFd) -> Result<ImageFile, Unreadable> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(ImageFile {
        fd: rustix::fs::open(link, flags, Mode::empty())?,
        layer: layer.path.clone(),
    })
}

/// One component, whatever it is, symlinks included.
fn open_name(directory: &impl AsFd, name: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Unreadable> {
    if name == b".." || name.contains(&b'/') {
        return Ok(None);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory, name, flags, Mode::empty()) {
        Ok(fd) => {
            let stat = fstat(&fd)?;
            Ok(Some((fd, stat)))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL) => Ok(None),
        Err(error) => Err(Unreadable(error)),
    }
}

/// A path of several components below one directory, never through a symlink.
fn walk(directory: &OwnedFd, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Unreadable> {
    let mut current: Option<(OwnedFd, Stat)> = None;
    for name in components(path) {
        let next = match &current {
            Some((fd, _)) => open_name(fd, name)?,
            None => open_name(directory, name)?,
        };
        match next {
            Some(found) => current = Some(found),
            None => return Ok(None),
        }
    }
    Ok(current)
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::time::{ClockId, Timespec, clock_gettime};

    use super::*;

    #[test]
    fn what_a_deleted_image_lacks_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let layer = directory.path().join("layer");
        fs::create_dir_all(layer.join("opt/deep")).unwrap();
        fs::write(layer.join("opt/deep/tool"), "tool").unwrap();
        fs::write(layer.join("opt/other"), "other").unwrap();
        let open = |since| Layers::open(std::slice::from_ref(&layer), &[], false, since).unwrap();
        let seen = Timestamp::from(SystemTime::now());
        let layers = open(seen);
        assert!(layers.find(b"/opt/deep/tool").unwrap().is_some());
        assert!(layers.find(b"/opt/deep/new").unwrap().is_none());
        // Filesystems stamp changes with a clock that stands still for a few milliseconds.
        let now = clock_gettime(ClockId::Realtime);
        let ticked = |now: Timespec| {
            let coarse = clock_gettime(ClockId::RealtimeCoarse);
            (coarse.tv_sec, coarse.tv_nsec) > (now.tv_sec, now.tv_nsec)
        };
        while !ticked(now) {
            std::thread::yield_now();
        }
        fs::remove_file(layer.join("opt/deep/tool")).unwrap();
        // Looked at for the first time while the image is already being deleted.
        assert!(open(seen).find(b"/opt/deep/tool").is_err());
        fs::remove_dir_all(layer.join("opt/deep")).unwrap();
        assert!(layers.find(b"/opt/deep/tool").is_err());
        assert!(layers.find(b"/opt/other").unwrap().is_some());
        fs::remove_dir_all(&layer).unwrap();
        assert!(layers.find(b"/opt/other").is_err());
    }
}
