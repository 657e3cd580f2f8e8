//! Simulations: for each detector, the harmless act that must raise exactly its finding in a real container.
//!
//! They are data. A runner prepares a throw-away container, without network, and carries out the steps in order:
//!
//! 1. The image: a root filesystem with a shell at `/bin/sh` and with `cat`, `chmod`, `mv`, `cp`, `rm`, `mkdir` and `sleep` in
//!    `/bin` (the host's own, with their libraries), an empty writable `/tmp` directory that is part of the root filesystem
//!    (no tmpfs), [`MAPPER_PATH`] holding [`crate::samples::MAPPER`] (mode 755), and [`Simulation::image`]. No file of the
//!    image may be touched before the container starts: what is built in must stay so.
//! 2. [`Root::Overlay`]: the image is the lower directory of an overlay (any engine does this). [`Root::Plain`]: the container
//!    runs on a plain copy of it, which only a bare runtime does.
//! 3. The container runs as root; its first process is [`Simulation::script`] given to `/bin/sh -c`, which performs
//!    [`Simulation::steps`]. No step's failure is a failure of the simulation (an `openssl` that refuses to load an engine
//!    has still been asked to).
//! 4. [`Simulation::watcher_paused_s`]: freeze the running watcher (SIGSTOP) before the container starts, let it run, keep the
//!    watcher frozen for at least that many seconds, then thaw it (SIGCONT).
//!
//! A detector that is off by default ([`crate::Spec::enabled_by_default`]) must be switched on in the watcher's settings
//! before its simulation can raise it.

use crate::samples::Sample;

/// Where the program that maps a library stands in the image: it maps the file that its argument names as executable, as
/// the dynamic loader does, and exits.
pub const MAPPER_PATH: &str = "/bin/map-library";

/// A harmless act that raises one finding.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// What is done, in one sentence.
    pub about: &'static str,
    /// What the container's root is.
    pub root: Root,
    /// Files of the image, besides the common ones.
    pub image: &'static [ImageFile],
    /// What is done in the container, in order.
    pub steps: &'static [Step],
    /// Freeze the watcher for at least this many seconds while the steps run.
    pub watcher_paused_s: Option<u32>,
}

/// What a container's root filesystem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The image below, what the container writes above.
    Overlay,
    /// A directory like any other: nothing tells what the image shipped.
    Plain,
}

/// A file that the image ships.
#[derive(Clone, Copy, Debug)]
pub struct ImageFile {
    /// Absolute path in the image. Missing directories above it are made.
    pub path: &'static str,
    /// Its content.
    pub content: ImageContent,
    /// Permission bits.
    pub mode: u32,
}

/// What an image file holds.
#[derive(Clone, Copy, Debug)]
pub enum ImageContent {
    /// One of our own samples.
    Sample(Sample),
    /// A program of the host, by absolute path, together with the shared libraries it needs and its dynamic loader, each at
    /// the path it has on the host.
    HostProgram(&'static str),
}

/// One thing done in the container.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Writes a sample to `path`: in place when there is a file already (same inode), else a new file.
    Write {
        /// Absolute path.
        path: &'static str,
        /// What is written.
        sample: Sample,
        /// Permission bits.
        mode: u32,
    },
    /// Writes a sample beside `path` and renames it over it.
    Replace {
        /// Absolute path.
        path: &'static str,
        /// What is written.
        sample: Sample,
        /// Permission bits.
        mode: u32,
    },
    /// Runs a program and waits for it.
    Run {
        /// Absolute path. A `#!` script is run as a script; a file without magic is read by the shell.
        program: &'static str,
        /// Arguments after the program's name.
        args: &'static [&'static str],
        /// Environment added to the container's.
        env: &'static [(&'static str, &'static str)],
    },
    /// Maps a file executable, as loading a library does (runs [`MAPPER_PATH`] with it).
    MapLibrary {
        /// Absolute path.
        path: &'static str,
    },
    /// Runs a program many times, one after the other, as fast as it goes.
    RunTimes {
        /// Absolute path.
        program: &'static str,
        /// How often.
        times: u32,
    },
}

impl Simulation {
    /// In an overlay container, with the watcher watching.
    pub(crate) const fn in_overlay(
        about: &'static str,
        image: &'static [ImageFile],
        steps: &'static [Step],
    ) -> Self {
        Self {
            about,
            root: Root::Overlay,
            image,
            steps,
            watcher_paused_s: None,
        }
    }

    /// The steps as a script for the container's `/bin/sh -c`. It needs nothing but the common files of the image.
    pub fn script(&self) -> String {
        let mut script = String::new();
        for step in self.steps {
            step.write_to(&mut script);
            script.push('\n');
        }
        script
    }
}

impl Step {
    fn write_to(&self, script: &mut String) {
        match *self {
            Self::Write { path, sample, mode } => {
                write_sample(script, path, sample, mode);
            }
            Self::Replace { path, sample, mode } => {
                let beside = format!("{path}.new");
                write_sample(script, &beside, sample, mode);
                script.push_str(&format!("\nmv {} {}", quote(&beside), quote(path)));
            }
            Self::Run { program, args, env } => {
                for (name, value) in env {
                    script.push_str(&format!("{name}={} ", quote(value)));
                }
                script.push_str(&quote(program));
                for argument in args {
                    script.push(' ');
                    script.push_str(&quote(argument));
                }
                script.push_str(" || :");
            }
            Self::MapLibrary { path } => {
                script.push_str(&format!("{MAPPER_PATH} {} || :", quote(path)));
            }
            Self::RunTimes { program, times } => script.push_str(&format!(
                "i=0; while [ $i -lt {times} ]; do {} || :; i=$((i+1)); done",
                quote(program)
            )),
        }
    }
}

/// Octal escapes of the shell's own printf: no file, no encoder and no quoting is needed in the container. They stand in an
/// argument, not in the format, where shells differ on what an escaped `%` means.
fn write_sample(script: &mut String, path: &str, sample: Sample, mode: u32) {
    let escaped: String = sample
        .bytes()
        .iter()
        .map(|byte| format!("\\0{byte:03o}"))
        .collect();
    script.push_str(&format!(
        "printf '%b' '{escaped}' > {path}\nchmod {mode:o} {path}",
        path = quote(path)
    ));
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_a_quote_stays_one_word() {
        assert_eq!(quote("a'b c"), r"'a'\''b c'");
    }
}
