//! The command line, as clap reads it. Names and options here are a contract with users' scripts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where findings, intelligence and run-time state are kept unless `--state-dir` says otherwise.
pub(crate) const STATE_DIR_DEFAULT: &str = "/var/lib/hullwatch";

/// Threat detection for running containers.
#[derive(Debug, Parser)]
#[command(name = "hullwatch", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch every container on this machine until stopped
    Run(RunArgs),
    /// Serve the API and the review page over an existing store, without watching
    Serve(ServeArgs),
    /// Tokens for the API and the review page
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who changed what, and who signed in, the newest first
    Audit(AuditArgs),
    /// Run the harmless act of a detector in a throw-away container
    Simulate(SimulateArgs),
    /// List and show findings
    #[command(subcommand)]
    Findings(FindingsCommand),
    /// The threat-findings index: what can be found, and each detector's page
    Detectors(DetectorsArgs),
    /// Import and query threat intelligence
    #[command(subcommand)]
    Intel(IntelCommand),
    /// Make findings from a recording, without root or a kernel
    Replay(ReplayArgs),
    /// Tell what this host can do and what each missing thing costs
    Doctor(DoctorArgs),
    /// What a watcher starts to see whether it sees
    #[command(hide = true)]
    SelfTest(SelfTestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SelfTestArgs {
    /// Empty directory to mount over
    pub(crate) directory: PathBuf,
    /// Argument that tells the test's program from others
    pub(crate) token: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StateDir {
    /// Directory that holds findings and intelligence
    #[arg(long, value_name = "DIR", default_value = STATE_DIR_DEFAULT)]
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) state: StateDir,
    /// List of SHA-256 hashes to load beside the imported ones (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) intel: Vec<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How each new finding is printed on standard output
    #[arg(long, value_enum, default_value_t = RunFormat::Human)]
    pub(crate) format: RunFormat,
    /// Stop after this long, e.g. `30s`, `5m`
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Also write every enriched event to this new file, which its owner alone can read, for `hullwatch replay`. Secrets in
    /// arguments are left out as in findings
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Do not serve the API and the review page
    #[arg(long)]
    pub(crate) no_listen: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Address of the API and the review page
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    pub(crate) listen: std::net::SocketAddr,
    /// Certificate chain for TLS (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key for TLS (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve without TLS on an address that others can reach
    #[arg(long)]
    pub(crate) insecure_listen: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) state: StateDir,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once
    Create {
        /// viewer, editor or admin
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// Name, which the audit log shows
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        state: StateDir,
    },
    /// List tokens (never their secrets)
    List {
        #[command(flatten)]
        state: StateDir,
    },
    /// Revoke a token
    Revoke {
        /// Its name or id
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        state: StateDir,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) state: StateDir,
    /// Output format; `json` is one object with the list `entries`
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) format: TableFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunFormat {
    /// One readable line
    Human,
    /// One line of JSON: `{"finding": {...}, "resource": {...}}` as in SCC v2
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Detectors to simulate, by id (see `hullwatch detectors`)
    #[arg(value_name = "ID", required_unless_present_any = ["all", "list"])]
    pub(crate) ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// Only list what there is
    #[arg(long)]
    pub(crate) list: bool,
    /// Engine that runs the container; the first that works when not given
    #[arg(long, value_enum)]
    pub(crate) runtime: Option<Runtime>,
    #[command(flatten)]
    pub(crate) state: StateDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Runc,
    Podman,
    Containerd,
    Docker,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FindingsCommand {
    /// List findings, the newest first
    List(FindingsListArgs),
    /// Show one finding
    Show(FindingsShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FindingsListArgs {
    #[command(flatten)]
    pub(crate) state: StateDir,
    /// Only findings that match, in SCC's filter language, e.g. `severity="CRITICAL" AND NOT mute="MUTED"`
    #[arg(long, value_name = "EXPR", default_value = "")]
    pub(crate) filter: String,
    /// List at most so many, 0 for all; 200 when not given, all with `json`
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Output format; `json` is one object in the shape of SCC's ListFindings response
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) format: TableFormat,
}

#[derive(Debug, Args)]
pub(crate) struct FindingsShowArgs {
    #[command(flatten)]
    pub(crate) state: StateDir,
    /// Name of the finding, or its id (the last part), or a beginning of the id that fits one finding only
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Output format
    #[arg(long, value_enum, default_value_t = ShowFormat::Summary)]
    pub(crate) format: ShowFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowFormat {
    Summary,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct DetectorsArgs {
    /// Show the full page of this detector
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) format: TableFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IntelCommand {
    /// Import lists of SHA-256 hashes: one a line, with an optional `;comment` or `,family`
    Import {
        /// The lists; a list of the same name is replaced
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        state: StateDir,
    },
    /// List what is imported
    List {
        #[command(flatten)]
        state: StateDir,
    },
    /// Tell whether a hash is known, and by which list
    Lookup {
        /// The SHA-256, 64 hex digits
        #[arg(value_name = "SHA256")]
        sha256: String,
        #[command(flatten)]
        state: StateDir,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The recording, made by `hullwatch run --record FILE`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How each finding is printed on standard output
    #[arg(long, value_enum, default_value_t = RunFormat::Human)]
    pub(crate) format: RunFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) format: TableFormat,
}

/// Reads `30s`, `5m`, `1h30m`, or a bare number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "expected a duration such as 30s, 5m or 1h30m")?;
    Duration::try_from(parsed).map_err(|_| "expected a duration that is not negative".to_owned())
}
