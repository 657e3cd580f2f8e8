//! Where a container's image is on the host: found once per container, from the mounts of its first process.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use model::{
    Text, Timestamp,
    limits::MOUNTINFO_BYTES_MAX,
    mountinfo::{Mount, mountinfo},
    provenance::UnknownReason,
};

use super::{
    copy::ImageCopy,
    image::{ImageFile, Layers, Unreadable},
    manifest::Manifest,
    mount_table::{MountTable, OverlayOptions},
};

/// A container's root filesystem and the image below it.
#[derive(Debug)]
pub struct RootFs {
    /// `st_dev` of the root filesystem: other mount namespaces of the container show the image's files on it too.
    pub device: u64,
    /// Directory of that filesystem which is the container's root. `/` unless it is a bind mount.
    pub root: Vec<u8>,
    /// Kind of filesystem.
    pub filesystem: Text,
    /// The image.
    pub image: Image,
}

/// What there is of an image.
#[derive(Debug)]
pub enum Image {
    /// Layer directories, as overlayfs has them; a single one for a driver that copies the image's tree.
    Layers(Layers),
    /// A list of paths and digests.
    Manifest(Manifest),
    /// Nothing, and why.
    None(UnknownReason),
}

/// What an image ships at a path.
#[derive(Debug)]
pub enum Shipped {
    /// No file.
    Nothing,
    /// A file that can be read.
    File(ImageFile),
    /// A digest and where it is listed.
    Digest(model::provenance::Sha256, PathBuf),
}

/// The mounts of a process's mount namespace. `None` when the process is gone.
pub fn read_mounts(pid: u32) -> Option<MountTable> {
    let text = proc_reader::read(pid, "mountinfo", MOUNTINFO_BYTES_MAX)?;
    Some(MountTable::parse(&text)).filter(|table| !table.mounts.is_empty())
}

impl RootFs {
    /// Finds the image below `root`, the root mount of a container's first process. Paths of layers are looked up below
    /// `host_root`, `/` when the agent runs in the host's mount namespace. `since` is when the container was seen.
    pub fn new(root: &Mount, host_root: &Path, since: Timestamp) -> Self {
        let image = if root.filesystem.as_bytes() == b"overlay" {
            overlay_layers(root.super_options.as_bytes(), host_root, since)
        } else {
            ImageCopy::find(root, host_root, since)
        };
        Self {
            device: root.device,
            root: root.root.as_bytes().to_vec(),
            filesystem: root.filesystem.clone(),
            image,
        }
    }

    /// Nothing could be found out.
    pub fn unknown(reason: UnknownReason) -> Self {
        Self {
            device: 0,
            root: Vec::new(),
            filesystem: Text::default(),
            image: Image::None(reason),
        }
    }
}

impl Image {
    /// What the image ships at an absolute path.
    ///
    /// # Errors
    /// The reason why that is not known.
    pub fn find(&self, path: &[u8]) -> Result<Shipped, UnknownReason> {
        match self {
            Self::Layers(layers) => match layers.find(path) {
                Ok(Some(file)) => Ok(Shipped::File(file)),
                Ok(None) => Ok(Shipped::Nothing),
                Err(Unreadable { .. }) => Err(UnknownReason::ImageUnreadable),
            },
            Self::Manifest(manifest) => Ok(match manifest.find(path)? {
                Some(sha256) => Shipped::Digest(sha256, manifest.path().to_owned()),
                None => Shipped::Nothing,
            }),
            Self::None(reason) => Err(*reason),
        }
    }
}

fn overlay_layers(options: &[u8], host_root: &Path, since: Timestamp) -> Image {
    let options = OverlayOptions::parse(options);
    let base = layer_base(&options);
    let on_host = |directory: &Vec<u8>| {
        let path = base.join(OsStr::from_bytes(directory));
        on_host(path.as_os_str().as_bytes(), host_root)
    };
    let lower: Vec<PathBuf> = options.lower.iter().map(on_host).collect();
    let data_only: Vec<PathBuf> = options.data_only.iter().map(on_host).collect();
    match Layers::open(&lower, &data_only, options.is_userxattr, since) {
        Ok(layers) => Image::Layers(layers),
        Err(_) => Image::None(UnknownReason::NoImage),
    }
}

/// An absolute path of the host, as this process sees it.
pub(crate) fn on_host(path: &[u8], host_root: &Path) -> PathBuf {
    host_root.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}

/// Where the host has the overlay of that device number mounted, as a whole.
pub(crate) fn overlay_on_host(device: u64) -> Option<Mount> {
    let mut text = Vec::new();
    let table = File::open("/proc/self/mountinfo").ok()?;
    table
        .take(MOUNTINFO_BYTES_MAX)
        .read_to_end(&mut text)
        .ok()?;
    mountinfo(&text).find(|mount| {
        mount.device == device
            && mount.filesystem.as_bytes() == b"overlay"
            && mount.root.as_bytes() == b"/"
    })
}

/// The directory that relative layers start from. Engines with many layers mount from their storage directory, since the
/// options must fit into a page: Docker and Podman write `l/SHORT` for lower directories and the upper directory in
/// full, or relative too. What is known is that `upperdir` is `BASE/ID/diff`.
fn layer_base(options: &OverlayOptions) -> PathBuf {
    let upper = options
        .upper
        .as_ref()
        .map(|upper| PathBuf::from(std::ffi::OsString::from_vec(upper.clone())));
    upper
        .filter(|upper| upper.is_absolute())
        .and_then(|upper| upper.ancestors().nth(2).map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// Opens a file below the root of a process, symlinks followed inside that root only.
pub fn open_below(root: &impl AsFd, path: &[u8]) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let found = openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    crate::proc::reopen_regular(&found.ok()?)
}
