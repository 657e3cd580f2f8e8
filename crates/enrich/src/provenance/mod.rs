//! Is a file built in to the image, a modified file of it, or added? Decided by content.
//!
//! | what ran | verdict |
//! |---|---|
//! | bytes equal to what the image ships at that path | built in |
//! | the image ships a file at that path, with other bytes | modified |
//! | the image ships no file at that path; or it is on another mount, in memory, or bound to another path | added |
//! | the facts cannot be had | unknown, with the reason |
//!
//! Whether overlayfs has the file in its upper layer is never asked: `chmod` copies a file up as a patch does, and a
//! renamed directory shows lower files at new paths. Where the image ships a symlink at the path itself, what counts is
//! the file that it leads to inside the image: replacing `/usr/bin/awk -> mawk` by another program is a modification.

mod content_index;
mod copy;
mod image;
mod manifest;
mod mount_table;
mod root_fs;

use model::{
    Text,
    mountinfo::Mount,
    provenance::{Evidence, Provenance, Sha256, UnknownReason},
};

pub use content_index::ContentIndex;
pub use copy::parse_parent_layer;
pub use image::{ImageFile, Layers, Unreadable};
pub use manifest::Manifest;
pub(crate) use mount_table::strip_prefix;
pub use mount_table::{MountTable, OverlayOptions};
pub use root_fs::{Image, RootFs, Shipped, open_below, read_mounts};
pub(crate) use root_fs::{on_host, overlay_on_host};

use crate::hash::Content;

/// Where a file is, in the container's own terms.
#[derive(Debug)]
pub struct Location<'a> {
    /// Path from the root of the process's mount namespace.
    pub path: &'a [u8],
    /// The path was cut.
    pub is_path_truncated: bool,
    /// The mount it was reached through, when it is in the table.
    pub mount: Option<&'a Mount>,
    /// `st_dev`.
    pub device: Option<u64>,
    /// Kind of filesystem, as the kernel reported it; may be empty.
    pub filesystem: &'a [u8],
    /// In memory only.
    pub is_memfd: bool,
    /// It has no name any more.
    pub is_unnamed: bool,
}

/// What is known before any bytes are read.
#[derive(Debug)]
pub enum Verdict {
    /// All that there is to know.
    Final(Provenance, Evidence),
    /// The image ships a file at that path: the bytes decide.
    CompareWith(Original, Evidence),
}

/// What the image ships.
#[derive(Debug)]
pub enum Original {
    /// A file that can be read.
    File(ImageFile),
    /// A digest.
    Digest(Sha256),
}

/// Judges a file as far as that is possible without its bytes and those of the image's copy.
pub fn judge(root: &RootFs, location: &Location<'_>) -> Verdict {
    let mut evidence = Evidence {
        unnamed: location.is_unnamed,
        ..Evidence::default()
    };
    if location.is_memfd {
        evidence.unnamed = true;
        evidence.mount = Some(Text::from("memory (memfd)"));
        return Verdict::Final(Provenance::Added, evidence);
    }
    if let Image::None(reason) = root.image {
        return Verdict::Final(Provenance::Unknown(reason), evidence);
    }
    if let Some(mount) = other_mount(root, location) {
        evidence.mount = Some(mount);
        return Verdict::Final(Provenance::Added, evidence);
    }
    if location.is_path_truncated {
        return Verdict::Final(Provenance::Unknown(UnknownReason::PathTruncated), evidence);
    }
    match root.image.find(location.path) {
        Ok(Shipped::Nothing) => Verdict::Final(Provenance::Added, evidence),
        Ok(Shipped::Digest(sha256, list)) => {
            evidence.image_layer = Some(Text::from(list.to_string_lossy().into_owned()));
            Verdict::CompareWith(Original::Digest(sha256), evidence)
        }
        Ok(Shipped::File(file)) => {
            evidence.image_layer = Some(Text::from(file.layer.to_string_lossy().into_owned()));
            Verdict::CompareWith(Original::File(file), evidence)
        }
        Err(reason) => Verdict::Final(Provenance::Unknown(reason), evidence),
    }
}

/// Judges by the digest of the image's file.
pub(crate) fn compare(content: Option<&Content>, image_sha256: Sha256) -> Provenance {
    match content {
        Some(content) if content.sha256 == image_sha256 => Provenance::BuiltIn,
        Some(_) => Provenance::Modified,
        None => Provenance::Unknown(UnknownReason::NoContent),
    }
}

/// Words for the mount a file is on, when that is not the image's path on the container's root filesystem.
fn other_mount(root: &RootFs, location: &Location<'_>) -> Option<Text> {
    let Some(mount) = location.mount else {
        // The mount is gone, or there are too many: the device alone decides. When that is gone too, with the container's last
        // process, the file may be the image's; one at a path where the image ships nothing is not, wherever it was.
        let is_elsewhere = location.device.is_some_and(|device| device != root.device);
        return is_elsewhere.then(|| {
            let name = if location.filesystem.is_empty() {
                b"unknown"
            } else {
                location.filesystem
            };
            Text::from([name, b" (mount not found)"].concat().as_slice())
        });
    };
    let rest = mount_table::strip_prefix(location.path, mount.mountpoint.as_bytes());
    if mount.device == root.device && mount.filesystem == root.filesystem {
        // The root itself, or some directory of it bound somewhere. The file is where the image has it when its path
        // within the filesystem is the path it was reached by.
        let inside = mount_table::strip_prefix(mount.root.as_bytes(), &root.root);
        if let (Some(inside), Some(rest)) = (inside, rest)
            && [inside.strip_suffix(b"/").unwrap_or(inside), rest].concat() == location.path
        {
            return None;
        }
    }
    let mut words = mount.filesystem.as_bytes().to_vec();
    if mount.root.as_bytes() != b"/" {
        words.extend_from_slice(b" (");
        words.extend_from_slice(mount.root.as_bytes());
        words.extend_from_slice(b")");
    }
    words.extend_from_slice(b" on ");
    words.extend_from_slice(mount.mountpoint.as_bytes());
    Some(Text::from(words))
}
