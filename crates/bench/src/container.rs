//! A container whose image is the host's own root filesystem: compilers, shells and this program are in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use tempfile::TempDir;

/// A runc bundle over an overlay of `/`. Removed when dropped.
pub(crate) struct Container {
    id: String,
    bundle: TempDir,
}

impl Container {
    /// Mounts the overlay and writes the bundle. Nothing runs yet.
    pub(crate) fn new(id: &str) -> Result<Self> {
        let bundle = tempfile::tempdir().context("making a bundle")?;
        for name in ["upper", "work", "rootfs"] {
            fs::create_dir(bundle.path().join(name))?;
        }
        let path = |name: &str| bundle.path().join(name).display().to_string();
        let options = std::ffi::CString::new(format!(
            "lowerdir=/,upperdir={},workdir={}",
            path("upper"),
            path("work")
        ))?;
        mount(
            "overlay",
            bundle.path().join("rootfs"),
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .context("mounting an overlay of /: this needs root")?;
        Ok(Self {
            id: format!("{id}-{}", std::process::id()),
            bundle,
        })
    }

    /// A directory inside the container, as the host sees it.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.bundle
            .path()
            .join("rootfs")
            .join(inside.trim_start_matches('/'))
    }

    /// Runs a command as the container's first process and returns its standard output.
    pub(crate) fn run(&self, command: &[&str]) -> Result<String> {
        let output = self
            .spawn(command)?
            .wait_with_output()
            .context("running runc")?;
        ensure!(
            output.status.success(),
            "{command:?} failed in the container: {}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stdout).context("reading the command's output")
    }

    /// Starts a command as the container's first process.
    pub(crate) fn spawn(&self, command: &[&str]) -> Result<Child> {
        self.write_config(command)?;
        Command::new("runc")
            .arg("--root")
            .arg(self.bundle.path().join("state"))
            .args(["run", "--bundle"])
            .arg(self.bundle.path())
            .arg(&self.id)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting runc")
    }

    fn write_config(&self, command: &[&str]) -> Result<()> {
        let file = self.bundle.path().join("config.json");
        let _ = fs::remove_file(&file);
        let status = Command::new("runc")
            .arg("spec")
            .arg("--bundle")
            .arg(self.bundle.path())
            .status()?;
        ensure!(status.success(), "runc spec failed");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
        config["process"]["args"] = json!(command);
        config["process"]["terminal"] = json!(false);
        config["process"]["rlimits"] = json!([]);
        config["root"]["readonly"] = json!(false);
        fs::write(&file, serde_json::to_vec(&config)?).context("writing config.json")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("runc")
            .arg("--root")
            .arg(self.bundle.path().join("state"))
            .args(["delete", "--force", &self.id])
            .stderr(Stdio::null())
            .status();
        let _ = unmount(self.bundle.path().join("rootfs"), UnmountFlags::DETACH);
    }
}

/// Copies a directory tree of regular files, e.g. sources to build.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
