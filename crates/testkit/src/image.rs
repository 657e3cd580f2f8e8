//! A container image made from nothing: a static busybox and whatever files a test adds, in one or more layers.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use model::hex;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::command;

/// Where the package `busybox-static` installs it.
const BUSYBOX: &str = "/bin/busybox";

/// An image to build.
#[derive(Clone, Debug)]
pub struct Image {
    /// Reference, e.g. `example.test/app:v1`.
    pub reference: String,
    command: Vec<String>,
    env: Vec<String>,
    labels: BTreeMap<String, String>,
    layers: Vec<BTreeMap<PathBuf, Entry>>,
}

#[derive(Clone, Debug)]
enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
    Whiteout,
    Opaque,
}

impl Image {
    /// busybox with a link for each of its programs, `/etc/passwd`, and a `/tmp` that all can write.
    ///
    /// # Panics
    /// When `/bin/busybox` is missing (package `busybox-static`).
    pub fn busybox(reference: &str) -> Self {
        let busybox = fs::read(BUSYBOX).expect("/bin/busybox, of the package busybox-static");
        let mut image = Self {
            reference: reference.to_owned(),
            command: vec!["/bin/sleep".to_owned(), "100000".to_owned()],
            env: vec!["PATH=/bin:/usr/bin:/sbin:/usr/sbin".to_owned()],
            labels: BTreeMap::new(),
            layers: vec![BTreeMap::new()],
        }
        .directory("/bin", 0o755)
        .directory("/etc", 0o755)
        .directory("/tmp", 0o1777)
        .file("/bin/busybox", 0o755, &busybox)
        .file(
            "/etc/passwd",
            0o644,
            b"root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n",
        );
        for program in command::run(Command::new(BUSYBOX).arg("--list")).lines() {
            if program != "busybox" {
                image = image.link(&format!("/bin/{program}"), "busybox");
            }
        }
        image
    }

    /// Adds a file. Missing parents become directories of mode 0755.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.add(path, Entry::File(mode, bytes.to_vec()))
    }

    /// Adds a program of this host, and below the paths they have here the libraries and the loader that it needs.
    ///
    /// # Panics
    /// When the program is missing or linked statically.
    #[must_use]
    pub fn host_program(self, path: &str, program: &str) -> Self {
        let read = |path: &str| fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let listed = command::run(Command::new("ldd").arg(program));
        // Lines are "libc.so.6 => /lib/libc.so.6 (0x...)", "/lib64/ld-linux.so.2 (0x...)" or "linux-vdso.so.1 (0x...)".
        let needed = listed.lines().filter_map(|line| {
            let path = line.rsplit("=> ").next()?.rsplit_once(" (0x")?.0.trim();
            path.starts_with('/').then_some(path)
        });
        needed.fold(self.file(path, 0o755, &read(program)), |image, path| {
            image.file(path, 0o755, &read(path))
        })
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.add(path, Entry::Directory(mode))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.add(path, Entry::Link(PathBuf::from(target)))
    }

    /// Starts another layer above; what is added from now on is in it.
    #[must_use]
    pub fn layer(mut self) -> Self {
        self.layers.push(BTreeMap::new());
        self
    }

    /// Removes a path of the layers below.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        self.add(path, Entry::Whiteout)
    }

    /// Makes this layer's directory hide that of the layers below.
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        self.add(&format!("{path}/.wh..wh..opq"), Entry::Opaque)
    }

    /// The command to run; without it `/bin/sleep 100000`.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    fn add(mut self, path: &str, entry: Entry) -> Self {
        let path = PathBuf::from(path.trim_start_matches('/'));
        let layer = self.layers.last_mut().expect("there is always a layer");
        for parent in path.ancestors().skip(1) {
            if !parent.as_os_str().is_empty() {
                layer
                    .entry(parent.to_owned())
                    .or_insert(Entry::Directory(0o755));
            }
        }
        layer.insert(path, entry);
        self
    }

    /// The command of the image.
    pub(crate) fn command_words(&self) -> &[String] {
        &self.command
    }

    /// `NAME=value` of the image.
    pub(crate) fn env_lines(&self) -> &[String] {
        &self.env
    }

    /// The labels of the image.
    pub(crate) fn label_map(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Writes the image as `docker save` does: Podman, containerd and Docker load it.
    /// <https://github.com/moby/docker-image-spec/blob/main/spec.md>
    ///
    /// # Panics
    /// When writing fails.
    pub fn write_docker_archive(&self, path: &Path) {
        let layers: Vec<Vec<u8>> = self.layers.iter().map(layer_tar).collect();
        let diff_ids: Vec<String> = layers
            .iter()
            .map(|layer| format!("sha256:{}", sha256(layer)))
            .collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": { "Cmd": self.command, "Env": self.env, "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": vec![json!({ "created_by": "test" }); layers.len()],
        })
        .to_string();
        let config_name = format!("{}.json", sha256(config.as_bytes()));
        let names: Vec<String> = (0..layers.len())
            .map(|number| format!("layer{number}.tar"))
            .collect();
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [self.reference],
            "Layers": names,
        }])
        .to_string();

        let file = File::create(path).expect("creating the archive");
        let mut archive = tar::Builder::new(io::BufWriter::new(file));
        append(&mut archive, &config_name, config.as_bytes());
        for (name, layer) in names.iter().zip(&layers) {
            append(&mut archive, name, layer);
        }
        append(&mut archive, "manifest.json", manifest.as_bytes());
        archive
            .into_inner()
            .and_then(|mut file| file.flush())
            .expect("writing the archive");
    }

    /// Unpacks each layer into a directory of its own below `directory`, in the form that overlayfs mounts, and returns them,
    /// the uppermost first as `lowerdir` wants it.
    ///
    /// # Panics
    /// When writing fails, or without the right to make device nodes.
    pub fn unpack_layers(&self, directory: &Path) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let root = directory.join(format!("layer{number}"));
            fs::create_dir_all(&root).expect("creating a layer");
            fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
            for (path, entry) in layer {
                unpack(&root.join(path), entry)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
            directories.insert(0, root);
        }
        directories
    }
}

fn unpack(path: &Path, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Directory(mode) => {
            fs::create_dir_all(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
        }
        Entry::File(mode, bytes) => {
            fs::write(path, bytes)?;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
        }
        Entry::Link(target) => symlink(target, path),
        Entry::Whiteout => Ok(mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )?),
        Entry::Opaque => {
            let directory = path.parent().unwrap_or(path);
            Ok(setxattr(
                directory,
                "trusted.overlay.opaque",
                b"y",
                XattrFlags::empty(),
            )?)
        }
    }
}

fn layer_tar(layer: &BTreeMap<PathBuf, Entry>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in layer {
        let mut header = tar::Header::new_gnu();
        // A fixed time in the past: 2026-01-01.
        header.set_mtime(1_767_225_600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let appended = match entry {
            Entry::Directory(mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                archive.append_data(&mut header, path, io::empty())
            }
            Entry::File(mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, path, bytes.as_slice())
            }
            Entry::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, path, target)
            }
            Entry::Whiteout => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                header.set_mode(0o644);
                archive.append_data(
                    &mut header,
                    path.with_file_name(format!(".wh.{name}")),
                    io::empty(),
                )
            }
            Entry::Opaque => {
                header.set_mode(0o644);
                archive.append_data(&mut header, path, io::empty())
            }
        };
        appended.expect("packing into memory");
    }
    archive.into_inner().expect("packing into memory")
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, name, bytes)
        .expect("writing the archive");
}

/// Hex digits of the digest.
fn sha256(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}
