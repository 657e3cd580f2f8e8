//! What runs inside the container: `bench work ...`. Prints one number: nanoseconds, or a count.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// Run a program for a second, then COUNT times, one after the other; prints nanoseconds of the latter
    Storm {
        count: u32,
        program: PathBuf,
        args: Vec<String>,
    },
    /// Run a program for SECONDS, as fast as it goes; prints how often
    Rate { program: PathBuf, seconds: u64 },
    /// Run a program PER_SECOND times a second for SECONDS; prints how often
    Paced {
        program: PathBuf,
        per_second: u32,
        seconds: u32,
    },
    /// Configure and make the project in DIRECTORY; prints nanoseconds
    Build { directory: PathBuf },
    /// Write COUNT programs of SIZE bytes that differ in their end, run each, and print name and start time of each
    Drop {
        sample: PathBuf,
        directory: PathBuf,
        size: usize,
        count: u32,
    },
}

pub(crate) fn run(work: &Work) -> Result<()> {
    let begin = Instant::now();
    let number = match work {
        Work::Storm {
            count,
            program,
            args,
        } => {
            // What a new container costs is over by then.
            while begin.elapsed() < Duration::from_secs(1) {
                run_once(program, args)?;
            }
            let begin = Instant::now();
            for _ in 0..*count {
                run_once(program, args)?;
            }
            begin.elapsed().as_nanos()
        }
        Work::Rate { program, seconds } => {
            let mut times = 0_u128;
            while begin.elapsed() < Duration::from_secs(*seconds) {
                run_once(program, &[])?;
                times += 1;
            }
            times
        }
        Work::Paced {
            program,
            per_second,
            seconds,
        } => {
            let pause = Duration::from_secs(1) / *per_second;
            for turn in 0..per_second * seconds {
                thread::sleep((begin + pause * turn).saturating_duration_since(Instant::now()));
                run_once(program, &[])?;
            }
            u128::from(per_second * seconds)
        }
        Work::Build { directory } => {
            let status = Command::new("sh")
                .args(["-c", "./configure --static && make -j2 libz.a"])
                .current_dir(directory)
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "the build failed");
            begin.elapsed().as_nanos()
        }
        Work::Drop {
            sample,
            directory,
            size,
            count,
        } => return drop_and_run(sample, directory, *size, *count),
    };
    writeln!(io::stdout(), "{number}").context("printing the result")
}

fn run_once(program: &PathBuf, args: &[String]) -> Result<()> {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .status()
        .context("running the program")?;
    ensure!(status.success(), "the program failed");
    Ok(())
}

fn drop_and_run(sample: &PathBuf, directory: &PathBuf, size: usize, count: u32) -> Result<()> {
    let sample = fs::read(sample)?;
    fs::create_dir_all(directory)?;
    for number in 0..count {
        let path = directory.join(number.to_string());
        fs::write(&path, numbered(&sample, size, number))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH)?;
        run_once(&path, &[])?;
        writeln!(io::stdout(), "{} {}", path.display(), start.as_nanos())?;
        // Ten a second: the time of one finding is measured, not that of a queue.
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A program padded to `size`, its number in the last bytes: ELF ignores what follows its segments.
pub(crate) fn numbered(sample: &[u8], size: usize, number: u32) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    bytes.resize(size.max(sample.len() + 4), 0);
    let end = bytes.len() - 4;
    bytes.truncate(end);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}
