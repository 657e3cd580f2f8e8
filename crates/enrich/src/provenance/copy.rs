//! Images without overlay: drivers that copy the image's tree, and bundles that come with a manifest.
//!
//! The root is then a plain directory of the host, bound into the container. Where it lies says who made it:
//! `.../vfs/dir/ID` is the `vfs` driver of Podman or Docker, which keeps the image's own copy beside the container's;
//! `BUNDLE/rootfs` with `BUNDLE/*.mtree` is umoci.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use model::{
    Timestamp,
    limits::{MANIFEST_BYTES_MAX, METADATA_BYTES_MAX},
    mountinfo::{Mount, mountinfo},
    provenance::UnknownReason,
};
use serde::Deserialize;

use super::{image::Layers, manifest::Manifest, mount_table::strip_prefix, root_fs::Image};

/// See the module.
pub(super) struct ImageCopy;

impl ImageCopy {
    /// The image of a container whose root is `mount`, a bind of a host directory. `since` is when the container was seen.
    pub(super) fn find(mount: &Mount, host_root: &Path, since: Timestamp) -> Image {
        host_directory(mount, host_root)
            .and_then(|directory| parent_layer(&directory, since).or_else(|| manifest(&directory)))
            .unwrap_or(Image::None(UnknownReason::NoImage))
    }
}

/// The directory on the host that is bound as root: some mount of the host shows the same filesystem.
fn host_directory(mount: &Mount, host_root: &Path) -> Option<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").ok()?;
    let candidates = mountinfo(&text).filter(|other| other.device == mount.device);
    candidates
        .filter_map(|other| {
            let inside = strip_prefix(mount.root.as_bytes(), other.root.as_bytes())?;
            let mountpoint = other.mountpoint.as_bytes();
            let on_host = [mountpoint.strip_suffix(b"/").unwrap_or(mountpoint), inside];
            let path = PathBuf::from(OsString::from_vec(on_host.concat()));
            Some(host_root.join(path.strip_prefix("/").unwrap_or(&path)))
        })
        .find(|path| path.is_dir())
}

#[derive(Deserialize)]
struct StorageLayer {
    id: String,
    #[serde(default)]
    parent: String,
}

/// The tree that the container's was copied from, for `STORAGE/vfs/dir/ID`.
fn parent_layer(directory: &Path, since: Timestamp) -> Option<Image> {
    let id = directory.file_name()?.to_str()?;
    let all = directory.parent()?;
    let driver = all.parent()?;
    if all.file_name()? != "dir" || driver.file_name()? != "vfs" {
        return None;
    }
    // Docker copies image -> ID-init (with empty files for its own mounts) -> ID.
    let docker = all.join(format!("{id}-init"));
    let parent = if docker.is_dir() {
        docker
    } else {
        let list = driver.parent()?.join("vfs-layers/layers.json");
        all.join(parse_parent_layer(&read(&list, METADATA_BYTES_MAX)?, id)?)
    };
    Layers::open(&[parent], &[], false, since)
        .ok()
        .map(Image::Layers)
}

/// The layer that `id` was made from, by containers/storage's `layers.json`: one name of a directory. Pure.
pub fn parse_parent_layer(json: &[u8], id: &str) -> Option<String> {
    let layers: Vec<StorageLayer> = serde_json::from_slice(json).ok()?;
    let layer = layers.into_iter().find(|layer| layer.id == id)?;
    let is_plain = |name: &String| !name.is_empty() && !name.contains('/') && name != "..";
    Some(layer.parent).filter(is_plain)
}

/// The manifest beside a bundle's `rootfs`.
fn manifest(directory: &Path) -> Option<Image> {
    let mut lists = fs::read_dir(directory.parent()?)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let list = lists.find(|path| {
        path.extension()
            .is_some_and(|extension| extension == "mtree")
    })?;
    Manifest::parse(&list, &read(&list, MANIFEST_BYTES_MAX)?).map(Image::Manifest)
}

fn read(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= bytes_max);
    fs::read(path).ok().filter(|_| is_small)
}
