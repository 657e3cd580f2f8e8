//! Proves at start and now and then that the agent sees: in an overlay of its own it runs a harmless program and has another
//! one map a library, both on the built-in list, and waits for their events to come out of the pipeline with hash and match.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use detect::samples;
use model::{
    Text,
    enriched::{EnrichedEvent, EnrichedPayload},
    provenance::Sha256,
};

use crate::{EXIT_DONE, cli::SelfTestArgs};

/// Time between two tests, and at least between two reports that they fail.
const INTERVAL: Duration = Duration::from_secs(600);

/// Time to the next test once it is clear that they fail.
const RETRY: Duration = Duration::from_secs(30);

/// How long a test may take before it counts as failed. It runs its programs again and again meanwhile: one moment without a
/// processor decides nothing.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Tests in a row that fail before it is said. On a starved machine one alone says little.
const TRIES: u32 = 2;

/// Bytes kept of what the test's process says when it fails.
const REASON_BYTES_MAX: u64 = 1024;

/// The program that the test runs: harmless, and on the built-in list.
const PROGRAM: samples::Sample = samples::BUILT_IN_PROGRAM;

/// The library that the test has mapped: likewise.
const LIBRARY: samples::Sample = samples::BUILT_IN_LIBRARY;

/// What maps it.
const MAPPER: samples::Sample = samples::MAPPER;

/// Tells the test's own events from all others, by the program and an argument that is new in each run of the agent. The
/// argument alone would not do: who shares the host's process ids can read it, and could hide another program behind it.
pub(crate) struct Mark {
    token: String,
    programs: [Sha256; 2],
    library: Sha256,
    is_exec_seen: AtomicBool,
    is_load_seen: AtomicBool,
    /// There is a sensor for library loads.
    expects_loads: AtomicBool,
}

impl Mark {
    /// A new one.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(|error| anyhow!("getting random numbers: {error}"))?;
        Ok(Arc::new(Self {
            token: format!("{:032x}", u128::from_ne_bytes(token)),
            programs: [PROGRAM.sha256(), MAPPER.sha256()],
            library: LIBRARY.sha256(),
            is_exec_seen: AtomicBool::new(false),
            is_load_seen: AtomicBool::new(false),
            expects_loads: AtomicBool::new(true),
        }))
    }

    /// The argument of the test's programs.
    pub(crate) fn argument(&self) -> Text {
        Text::from(self.token.as_str())
    }

    /// Library loads are not seen, which was said.
    pub(crate) fn expect_no_loads(&self) {
        self.expects_loads.store(false, Ordering::Relaxed);
    }

    /// For an event of the test, whether it completes the proof that the agent sees. `None` for all others.
    pub(crate) fn proves(&self, event: &EnrichedEvent) -> Option<bool> {
        let process = event.process.as_ref()?;
        if process.args.get(1)?.as_bytes() != self.token.as_bytes() {
            return None;
        }
        let binary = process.binary.as_ref()?;
        if !self.programs.contains(&binary.sha256()?) {
            return None;
        }
        let (file, is_seen) = match &event.payload {
            EnrichedPayload::Exec => (binary, &self.is_exec_seen),
            EnrichedPayload::LibraryLoad { library } => {
                // The mapper would map any other as well.
                if library
                    .sha256()
                    .is_some_and(|sha256| sha256 != self.library)
                {
                    return None;
                }
                (library, &self.is_load_seen)
            }
            _ => return Some(false),
        };
        if file.matches.is_empty() {
            return Some(false);
        }
        is_seen.store(true, Ordering::Relaxed);
        Some(self.unseen().is_none())
    }

    /// What was not seen since [`Self::forget`].
    fn unseen(&self) -> Option<&'static str> {
        if !self.is_exec_seen.load(Ordering::Relaxed) {
            Some("a program was run for it, but no event with its hash came")
        } else if self.expects_loads.load(Ordering::Relaxed)
            && !self.is_load_seen.load(Ordering::Relaxed)
        {
            Some("a library was loaded for it, but no event with its hash came")
        } else {
            None
        }
    }

    fn forget(&self) {
        self.is_exec_seen.store(false, Ordering::Relaxed);
        self.is_load_seen.store(false, Ordering::Relaxed);
    }
}

/// Runs the tests.
pub(crate) struct SelfTest {
    mark: Arc<Mark>,
    directory: PathBuf,
    running: Option<(Child, Instant)>,
    next: Instant,
    /// In a row.
    failures: u32,
    reported: Option<Instant>,
}

impl SelfTest {
    /// The first test begins with the next [`Self::turn`].
    pub(crate) fn new(mark: Arc<Mark>, state_dir: &Path) -> Self {
        Self {
            mark,
            directory: state_dir.join("self-test"),
            running: None,
            next: Instant::now(),
            failures: 0,
            reported: None,
        }
    }

    /// Begins a test when it is time. Gives what came out: the reason when the agent turns out not to see. To be called every
    /// few seconds.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Result<(), String>> {
        let Some((child, since)) = &mut self.running else {
            if now < self.next {
                return None;
            }
            return match self.begin() {
                Ok(child) => {
                    self.running = Some((child, now));
                    None
                }
                Err(error) => self.failed(now, &error.to_string()),
            };
        };
        let unseen = self.mark.unseen();
        if unseen.is_none() {
            self.end();
            self.failures = 0;
            self.next = now + INTERVAL;
            self.reported = None;
            return Some(Ok(()));
        }
        let has_failed = matches!(child.try_wait(), Ok(Some(status)) if !status.success());
        if !has_failed && now.duration_since(*since) < WAIT_MAX {
            return None;
        }
        let reason = match self.end() {
            empty if empty.is_empty() => unseen.unwrap_or_default().to_owned(),
            reason => reason,
        };
        self.failed(now, &reason)
    }

    fn failed(&mut self, now: Instant, reason: &str) -> Option<Result<(), String>> {
        self.failures += 1;
        if self.failures < TRIES {
            return None;
        }
        self.next = now + RETRY;
        let is_recent = |reported| now.duration_since(reported) < INTERVAL;
        if self.reported.is_some_and(is_recent) {
            return None;
        }
        self.reported = Some(now);
        Some(Err(reason.to_owned()))
    }

    fn begin(&self) -> io::Result<Child> {
        self.mark.forget();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        Command::new("/proc/self/exe")
            .arg("self-test")
            .arg(&self.directory)
            .arg(&self.mark.token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Ends the test's process, and gives what it complained about.
    fn end(&mut self) -> String {
        let Some((mut child, _)) = self.running.take() else {
            return String::new();
        };
        // It may have ended by itself.
        let _ = child.kill();
        let mut reason = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(REASON_BYTES_MAX).read_to_end(&mut reason);
        }
        let _ = child.wait();
        String::from_utf8_lossy(&reason).trim().to_owned()
    }
}

impl Drop for SelfTest {
    fn drop(&mut self) {
        self.end();
    }
}

/// `hullwatch self-test DIRECTORY TOKEN`: what the test's own process does.
pub(crate) fn run(args: &SelfTestArgs) -> Result<u8> {
    let token = args.token.as_str();
    sensor_ebpf::run_in_overlay(
        &args.directory,
        &[
            ("program", &PROGRAM.bytes()),
            ("mapper", &MAPPER.bytes()),
            (token, &LIBRARY.bytes()),
        ],
        &[["/program", token], ["/mapper", token]],
        WAIT_MAX,
    )
    .context("running programs in an overlay")?;
    Ok(EXIT_DONE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{
        Timestamp,
        enriched::{Content, File, FileKind, Process},
        provenance::{Evidence, Provenance},
    };

    use super::*;

    fn file(sha256: Sha256) -> Arc<File> {
        Arc::new(File {
            path: "/x".into(),
            path_used: None,
            content: Content::Known { sha256, size: 1 },
            key: None,
            provenance: Provenance::Added,
            evidence: Evidence::default(),
            matches: Vec::new(),
            kind: FileKind::Unknown,
            contents: None,
            is_memfd: false,
        })
    }

    fn event(argument: &str, sha256: Sha256) -> EnrichedEvent {
        EnrichedEvent {
            time: Timestamp::default(),
            container: None,
            process: Some(Arc::new(Process {
                args: vec!["/x".into(), argument.into()],
                binary: Some(file(sha256)),
                ..Process::default()
            })),
            payload: EnrichedPayload::Exec,
        }
    }

    #[test]
    fn nobody_hides_another_program_or_library_behind_the_argument() {
        let mark = Mark::new().unwrap();
        let token = mark.token.clone();
        assert_eq!(mark.proves(&event(&token, PROGRAM.sha256())), Some(false));
        assert_eq!(mark.proves(&event(&token, MAPPER.sha256())), Some(false));
        assert_eq!(mark.proves(&event("other", PROGRAM.sha256())), None);
        assert_eq!(mark.proves(&event(&token, Sha256([7; 32]))), None);
        for (sha256, is_own) in [(LIBRARY.sha256(), true), (Sha256([7; 32]), false)] {
            let mut load = event(&token, MAPPER.sha256());
            load.payload = EnrichedPayload::LibraryLoad {
                library: file(sha256),
            };
            assert_eq!(mark.proves(&load), is_own.then_some(false));
        }
    }

    #[test]
    fn who_does_not_see_looks_again_soon_and_says_so_every_ten_minutes() {
        let directory = tempfile::tempdir().unwrap();
        let mut test = SelfTest::new(Mark::new().unwrap(), directory.path());
        let start = Instant::now();
        let (mut begun, mut reported) = (0, Vec::new());
        for second in (0..1300).step_by(2) {
            let was_running = test.running.is_some();
            // What it starts here is this test program, without a test to run: nothing is seen.
            let reason = test.turn(start + Duration::from_secs(second));
            begun += u32::from(!was_running && test.running.is_some());
            reported.extend(reason.map(|_| second));
        }
        assert!(begun >= 20, "{begun}");
        assert_eq!(reported.len(), 3, "{reported:?}");
        let is_apart = |pair: &[u64]| (600..660).contains(&(pair[1] - pair[0]));
        assert!(reported.windows(2).all(is_apart), "{reported:?}");
    }
}
