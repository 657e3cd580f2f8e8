//! One simulation in one throw-away container, by whichever engine.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use detect::{Spec, simulation::Root};
use model::Timestamp;

use super::{engines, external, image, runc, watcher::Watcher};
use crate::{cli::Runtime, signals::Signals};

/// Longest that loading an image or running a simulation may take. On a busy machine an engine takes seconds, and a slow one
/// minutes for the tens of thousands of programs that overflow a buffer.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(600);

/// Longest that removing a container or an image may take.
pub(crate) const CLEAN_UP_LIMIT: Duration = Duration::from_secs(60);

/// Longest that an engine may take to say whether it is there.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Marks containers and images as ours, for whoever meets one: the value is the detector's id.
const LABEL: &str = "hullwatch.simulation";

/// How long a container is kept for the watcher to report it. On a busy machine it hashes and looks up for a while.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// Seconds that a container lives on after the act when nothing says that its report is there: another watcher than the one
/// asked about, or another program that watches, compares what ran with the image while both are there.
const UNASKED_LIFE_S: u32 = 2;

/// How long a watcher that was frozen may take to report that: it has much to catch up with.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// Time between two looks at what it has reported.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What an engine is given.
pub(crate) struct Job<'a> {
    /// Name of the container, unique on this machine.
    pub(crate) name: String,
    /// Reference of its image, unique likewise. `localhost` is never asked for an image.
    pub(crate) reference: String,
    /// Label or annotation of both.
    pub(crate) label: (&'static str, &'a str),
    /// The container's first process.
    pub(crate) command: Vec<String>,
    /// Root of the image's tree.
    pub(crate) image: PathBuf,
    /// Where the engine may put files. Removed afterwards.
    pub(crate) directory: PathBuf,
    /// Ends the job early.
    pub(crate) interrupt: &'a Signals,
    spec: &'static Spec,
    /// Keep the container until this watcher has reported it.
    watcher: Option<&'a Watcher>,
    finding: RefCell<Option<String>>,
}

impl Job<'_> {
    /// Runs an engine's client that runs the container, to its end.
    pub(crate) fn run(&self, client: &mut Command) -> Result<()> {
        let mut is_reported = || {
            let name = self
                .watcher
                .and_then(|watcher| watcher.finding(self.spec.category, &self.name));
            let is_reported = name.is_some();
            self.finding.replace(name);
            is_reported
        };
        let hold = self.watcher.map(|_| external::Hold {
            is_enough: &mut is_reported,
            limit: REPORT_LIMIT,
        });
        external::succeed_holding(client, RUN_LIMIT, Some(self.interrupt), hold)?;
        Ok(())
    }
}

/// How a simulation went.
pub(crate) struct Done {
    /// The container it ran in.
    pub(crate) container: String,
    /// What the watcher made of it.
    pub(crate) report: Report,
}

/// See [`Done`].
pub(crate) enum Report {
    /// The name of the finding.
    Found(String),
    /// There is a watcher, and it reported nothing within this time.
    Nothing(Duration),
    /// There is no watcher.
    NotAsked,
}

/// Performs a simulation. `watcher` is frozen meanwhile when the simulation asks for it; otherwise the container lives until
/// the watcher has reported it, or for a moment when it does not run, so that nothing that is to be looked at is gone before.
pub(crate) fn run(
    spec: &'static Spec,
    runtime: Runtime,
    watcher: &Watcher,
    interrupt: &Signals,
) -> Result<Done> {
    let simulation = &spec.simulation;
    let directory = tempfile::Builder::new()
        .prefix("hullwatch-simulation-")
        .tempdir()
        .context("making a temporary directory")?;
    let unique = directory
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.rsplit('-').next())
        .context("the temporary directory has no name")?;
    let image = directory.path().join("image");
    fs::create_dir(&image)?;
    fs::set_permissions(&image, fs::Permissions::from_mode(0o755))?;
    image::build(&image, simulation).context("making the image")?;
    let since = Timestamp::from(SystemTime::now());
    let frozen = simulation
        .watcher_paused_s
        .map(|seconds| {
            Ok::<_, anyhow::Error>((watcher.freeze()?, Duration::from_secs(seconds.into())))
        })
        .transpose()?;
    let is_kept = frozen.is_none() && watcher.is_running();
    let mut script = simulation.script();
    if is_kept {
        // Until standard input is closed.
        script.push_str("\nread -r _ || :");
    } else if frozen.is_none() {
        script.push_str(&format!("\nsleep {UNASKED_LIFE_S}"));
    }
    let job = Job {
        name: format!("hullwatch-simulation-{}-{unique}", spec.id),
        reference: format!("localhost/hullwatch-simulation:{}-{unique}", spec.id),
        label: (LABEL, spec.id),
        command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
        image,
        directory: directory.path().to_owned(),
        interrupt,
        spec,
        watcher: is_kept.then_some(watcher),
        finding: RefCell::default(),
    };
    let begun = Instant::now();
    let plain = simulation.root == Root::Plain;
    match runtime {
        Runtime::Runc => runc::run(&job, plain),
        _ if plain => {
            bail!("only runc can run a container on a plain directory: use --runtime runc")
        }
        Runtime::Podman => engines::run_podman(&job),
        Runtime::Containerd => engines::run_containerd(&job),
        Runtime::Docker => engines::run_docker(&job),
    }?;
    let report = if let Some((frozen, at_least)) = frozen {
        interrupt.pause(at_least.saturating_sub(begun.elapsed()))?;
        drop(frozen);
        catch_up(spec, watcher, since, interrupt)?
    } else {
        match (job.finding.into_inner(), is_kept) {
            (Some(finding), _) => Report::Found(finding),
            (None, true) => Report::Nothing(REPORT_LIMIT),
            (None, false) => Report::NotAsked,
        }
    };
    Ok(Done {
        container: job.name,
        report,
    })
}

/// Waits until the watcher that was frozen has reported it.
fn catch_up(
    spec: &Spec,
    watcher: &Watcher,
    since: Timestamp,
    interrupt: &Signals,
) -> Result<Report> {
    let thawed = Instant::now();
    while thawed.elapsed() < CATCH_UP_LIMIT {
        if let Some(finding) = watcher.finding_since(spec.category, since) {
            return Ok(Report::Found(finding));
        }
        interrupt.pause(LOOK_INTERVAL)?;
    }
    Ok(Report::Nothing(CATCH_UP_LIMIT))
}

/// The engine that the user named, when it answers, or the first that does.
pub(crate) fn choose(wanted: Option<Runtime>) -> Result<Runtime> {
    if let Some(runtime) = wanted {
        answers(runtime).with_context(|| format!("{} cannot be used", name(runtime)))?;
        return Ok(runtime);
    }
    let mut reasons = Vec::new();
    // runc first: it needs no daemon and no configuration.
    for runtime in [
        Runtime::Runc,
        Runtime::Podman,
        Runtime::Containerd,
        Runtime::Docker,
    ] {
        match answers(runtime) {
            Ok(()) => return Ok(runtime),
            Err(error) => reasons.push(format!("{}: {error:#}", name(runtime))),
        }
    }
    bail!(
        "no container engine works on this host (on Debian: apt-get install runc): {}",
        reasons.join("; ")
    )
}

/// Whether the engine can be asked to run something.
fn answers(runtime: Runtime) -> Result<()> {
    let mut command = match runtime {
        Runtime::Runc => {
            if !rustix::process::geteuid().is_root() {
                bail!("it needs root: use sudo");
            }
            let mut command = Command::new("runc");
            command.arg("list");
            command
        }
        Runtime::Podman => engines::podman(&["info"]),
        Runtime::Containerd => engines::ctr(&["--connect-timeout", "2s", "version"]),
        Runtime::Docker => engines::docker(&["version"]),
    };
    let program = command.get_program().to_string_lossy().into_owned();
    if external::find(&program).is_none() {
        bail!("{program} is not installed");
    }
    external::succeed(&mut command, PROBE_LIMIT, None)?;
    Ok(())
}

/// What people call it.
pub(crate) fn name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Runc => "runc",
        Runtime::Podman => "podman",
        Runtime::Containerd => "containerd",
        Runtime::Docker => "docker",
    }
}
