//! The image of a simulation's container: a directory tree made from this host's own programs and our harmless samples.
//!
//! No registry and no prepared image: a shell and a few basic tools are copied from the host, each with the libraries it
//! needs and its dynamic loader.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use detect::{
    samples,
    simulation::{ImageContent, MAPPER_PATH, Simulation},
};

use super::external;

/// Programs that a simulation's script may use. Where they are on the host does not matter, in the image they are in `/bin`.
const TOOLS: [&str; 8] = ["sh", "cat", "chmod", "mv", "cp", "rm", "mkdir", "sleep"];

/// Directories that engines mount over or programs expect.
const DIRECTORIES: [&str; 7] = ["dev", "etc", "proc", "run", "sys", "tmp", "var"];

/// Listing a program's libraries is a matter of milliseconds.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// Makes the tree under `root`, an empty directory.
pub(crate) fn build(root: &Path, simulation: &Simulation) -> Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for tool in TOOLS {
        copy_program(root, Path::new(tool), &Path::new("/bin").join(tool), 0o755)?;
    }
    write(
        root,
        Path::new(MAPPER_PATH),
        &samples::MAPPER.bytes(),
        0o755,
    )?;
    for file in simulation.image {
        let path = Path::new(file.path);
        match file.content {
            ImageContent::Sample(sample) => write(root, path, &sample.bytes(), file.mode)?,
            ImageContent::HostProgram(program) => {
                copy_program(root, Path::new(program), path, file.mode)?;
            }
        }
    }
    Ok(())
}

/// Copies a program of the host, and what it needs to start.
fn copy_program(root: &Path, program: &Path, to: &Path, mode: u32) -> Result<()> {
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let found = if program.is_absolute() && program.exists() {
        program.to_owned()
    } else {
        external::find(name).with_context(|| {
            format!("this simulation needs {name} on this host: install it (on Debian: apt-get install {name})")
        })?
    };
    let bytes = fs::read(&found).with_context(|| format!("reading {}", found.display()))?;
    if let Some(loader) =
        interpreter(&bytes).with_context(|| format!("reading {}", found.display()))?
    {
        for library in libraries(&loader, &found)? {
            let inside = root.join(relative(&library));
            if !inside.exists() {
                let bytes =
                    fs::read(&library).with_context(|| format!("reading {}", library.display()))?;
                write(root, &library, &bytes, 0o755)?;
            }
        }
    }
    write(root, to, &bytes, mode)
}

/// The dynamic loader that a program names, `None` when it needs none.
fn interpreter(program: &[u8]) -> Result<Option<PathBuf>> {
    let mut read_at = |offset, length| {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(program.len());
        program.iter().skip(start).take(length).copied().collect()
    };
    let elf = enrich::elf::parse(&mut read_at).context("it is not an ELF program")?;
    Ok(elf
        .interpreter
        .map(|path| PathBuf::from(OsStr::from_bytes(path.as_bytes()))))
}

/// The loader itself and every library it would map for the program, as `ldd` finds them. Nothing of the program is run.
fn libraries(loader: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(loader);
    command.arg("--list").arg(program);
    let output = external::succeed(&mut command, LIST_LIMIT, None)?;
    if let Some(missing) = output
        .stdout
        .lines()
        .find(|line| line.contains("=> not found"))
    {
        bail!("{} misses a library: {}", program.display(), missing.trim());
    }
    // Lines are "libc.so.6 => /lib/libc.so.6 (0x...)", "/lib64/ld-linux.so.2 (0x...)" or "linux-vdso.so.1 (0x...)".
    let mapped = output.stdout.lines().filter_map(|line| {
        let path = line.rsplit("=> ").next()?.rsplit_once(" (0x")?.0.trim();
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    Ok(mapped.chain([loader.to_owned()]).collect())
}

fn write(root: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let inside = root.join(relative(path));
    if let Some(parent) = inside.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&inside, bytes).with_context(|| format!("writing {}", inside.display()))?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
