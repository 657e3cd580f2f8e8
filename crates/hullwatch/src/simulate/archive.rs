//! An image archive as `docker save` writes it: what Podman, containerd and Docker all load.
//!
//! <https://github.com/moby/docker-image-spec/blob/main/spec.md>, "Combined Image JSON + Filesystem Changeset Format".

use std::{fs::File, io, path::Path};

use anyhow::{Context, Result};
use model::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Writes the tree under `root` to `archive`, as an image of one layer with that reference and that command.
pub(crate) fn write(
    root: &Path,
    archive: &Path,
    reference: &str,
    command: &[&str],
    label: (&str, &str),
) -> Result<()> {
    // A few megabytes: a shell, its libraries, and at most an `openssl`.
    let mut tree = tar::Builder::new(Vec::new());
    // Owners become root and times a fixed past, modes stay what matters here: readable, executable.
    tree.mode(tar::HeaderMode::Deterministic);
    tree.follow_symlinks(false);
    tree.append_dir_all("", root)
        .with_context(|| format!("packing {}", root.display()))?;
    let layer = tree.into_inner()?;

    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": command, "Env": ["PATH=/bin"], "Labels": { label.0: label.1 } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(&Sha256::digest(&layer)))] },
        "history": [{ "created_by": "hullwatch simulate" }],
    }))?;
    let config_name = format!("{}.json", hex::encode(&Sha256::digest(&config)));
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_name,
        "RepoTags": [reference],
        "Layers": ["layer.tar"],
    }]))?;

    let file = File::create(archive).with_context(|| format!("creating {}", archive.display()))?;
    let mut image = tar::Builder::new(io::BufWriter::new(file));
    append(&mut image, &config_name, &config)?;
    append(&mut image, "layer.tar", &layer)?;
    append(&mut image, "manifest.json", &manifest)?;
    io::Write::flush(&mut image.into_inner()?)?;
    Ok(())
}

fn append(image: &mut tar::Builder<impl io::Write>, name: &str, data: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    image
        .append_data(&mut header, name, data)
        .with_context(|| format!("packing {name}"))
}

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
