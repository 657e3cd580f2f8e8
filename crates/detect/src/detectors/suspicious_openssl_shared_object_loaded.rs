//! The `openssl` program loaded a shared object that does not belong to it, or was asked to.
//!
//! ## Why it matters
//! `openssl` runs code of any file it is given as an engine or a provider. It is installed nearly everywhere and trusted, so
//! attackers use it to start code of theirs under its name. In production nobody does this by hand.
//!
//! ## Evidence
//! The program is known by its content, also when it is copied, renamed or started through the dynamic loader. Two things
//! raise the finding:
//! - It mapped, as code, a shared object that is not part of the image or was changed since, other than an installed library
//!   that it needs itself; or one that its arguments, its environment or a configuration file of its own brought in from
//!   outside the installed engine and module directories.
//! - Its arguments alone ask for such an object, even when the load then fails: `-engine`, the `engine` command with a path,
//!   `SO_PATH` and `DIR_ADD` of the dynamic engine, `-provider` with a path or with `-provider-path`, keys given as
//!   `org.openssl.engine:` URIs, and a plain name together with `OPENSSL_ENGINES` or `OPENSSL_MODULES`.
//!
//! Request and load of the same object are one finding. `sourceProperties.Requested_Shared_Object` is the path asked for,
//! `Requested_By` the option, `processes[0].libraries` the object that was loaded.
//!
//! ## Blind spots and false positives
//! Programs other than `openssl` that use its libraries are not judged here. A request inside a configuration file shows when
//! the object is loaded, not before. An `openssl` that lives on a volume loads its own libraries from there, which are not
//! part of the image either. Plain names of installed engines and providers are ordinary use. So are libraries with the
//! names that `openssl` itself needs (`libcrypto`, `libssl`, `libc`, ...) where libraries are installed, also when a package
//! manager brought or renewed them in the running container: the installed configuration, when it was changed, can name an
//! object of such a name. `Added Library Loaded` tells of it.
//!
//! ## Response
//! Look at the arguments and take the `.so` for analysis. Ordinary work never needs this: treat the container as taken over
//! unless somebody says why it was done.

use std::{collections::VecDeque, sync::Arc};

use model::{
    Text,
    detection::Detection,
    enriched::{EnrichedEvent, EnrichedPayload, EventKind, File, FileKind, Process},
    event::ProcessKey,
    finding::{FindingClass, Severity},
    provenance::Provenance,
    text::escape_terminal,
};

use crate::{
    attack::{Attack, Technique},
    known::{self, Role},
    next_steps,
    openssl::{self, Request},
    samples,
    simulation::{ImageContent, ImageFile, Simulation, Step},
    spec::{Detector, Spec, Stage},
};

const OPENSSL: &str = "/usr/bin/openssl";
const OBJECT: &str = "/tmp/hullwatch-engine.so";

/// Processes remembered that run `openssl` through the dynamic loader. They live for moments.
const THROUGH_LOADER_MAX: usize = 256;

pub(crate) static SPEC: Spec = Spec {
    id: "suspicious_openssl_shared_object_loaded",
    category: "Execution: Suspicious OpenSSL Shared Object Loaded",
    module_name: "CLOUD_RUN_SUSPICIOUS_OPENSSL_SHARED_OBJECT_LOADED",
    severity: Severity::Critical,
    finding_class: FindingClass::Threat,
    attack: Some(Attack {
        tactic: "EXECUTION",
        techniques: &[Technique::SHARED_MODULES],
        additional_tactics: &[],
        additional_techniques: &[],
    }),
    consumes: &[EventKind::Exec, EventKind::LibraryLoad],
    enabled_by_default: true,
    stage: Stage::Stable,
    next_steps: &[
        "Look at the arguments for the path of the shared object, and save that file.",
        "Ask whoever owns the container whether this was intended: it hardly ever is.",
        next_steps::OTHER_FINDINGS,
        next_steps::VIRUSTOTAL,
        next_steps::SETTINGS,
        next_steps::LOGS,
        next_steps::REDEPLOY,
        next_steps::SECRETS,
    ],
    simulation: Simulation::in_overlay(
        "Writes a harmless shared object that no list names, and gives it to the image's `openssl` as an engine.",
        &[ImageFile {
            path: OPENSSL,
            content: ImageContent::HostProgram(OPENSSL),
            mode: 0o755,
        }],
        &[
            Step::Write {
                path: OBJECT,
                sample: samples::ENGINE,
                mode: 0o755,
            },
            Step::Run {
                program: OPENSSL,
                args: &["engine", "-t", OBJECT],
                env: &[],
            },
        ],
    ),
    source: include_str!("suspicious_openssl_shared_object_loaded.rs"),
    build: || Box::new(State::default()),
};

#[derive(Default)]
struct State {
    /// `ld.so openssl ...`: the kernel runs the loader, and `openssl` is a library of it.
    through_loader: VecDeque<(ProcessKey, usize)>,
}

impl Detector for State {
    fn on_event(&mut self, event: &EnrichedEvent, out: &mut Vec<Detection>) {
        let (Some(process), Some(_)) = (event.process.as_deref(), &event.container) else {
            return;
        };
        match &event.payload {
            EnrichedPayload::Exec => {
                // The same process may run something else now.
                self.through_loader.retain(|(key, _)| *key != process.key);
                if kind(process) == Some(FileKind::OpensslProgram) {
                    requested(
                        event,
                        process,
                        process.binary.as_deref(),
                        &process.args,
                        out,
                    );
                }
            }
            EnrichedPayload::LibraryLoad { library } => {
                if kind(process) == Some(FileKind::OpensslProgram) {
                    loaded(event, process, &process.args, out);
                } else if library.kind == FileKind::OpensslProgram
                    && kind(process) == Some(FileKind::DynamicLoader)
                {
                    let skipped = arguments_before(process, library);
                    self.remember(process.key, skipped);
                    let args = process.args.get(skipped..).unwrap_or_default();
                    requested(event, process, Some(library), args, out);
                } else if let Some(&(_, skipped)) = self
                    .through_loader
                    .iter()
                    .find(|(key, _)| *key == process.key)
                {
                    let args = process.args.get(skipped..).unwrap_or_default();
                    loaded(event, process, args, out);
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn remember(&mut self, key: ProcessKey, skipped: usize) {
        self.through_loader.retain(|(known, _)| *known != key);
        self.through_loader.truncate(THROUGH_LOADER_MAX - 1);
        self.through_loader.push_front((key, skipped));
    }
}

fn kind(process: &Process) -> Option<FileKind> {
    process.binary.as_deref().map(|binary| binary.kind)
}

/// Number of arguments that are the dynamic loader's own.
fn arguments_before(process: &Process, program: &File) -> usize {
    process
        .args
        .iter()
        .skip(1)
        .position(|argument| argument.file_name() == program.path.file_name())
        .map_or(1, |position| position + 1)
}

/// Judges what the arguments ask for.
fn requested(
    event: &EnrichedEvent,
    process: &Process,
    program: Option<&File>,
    args: &[Text],
    out: &mut Vec<Detection>,
) {
    let program = program
        .map(|program| program.path.to_string())
        .unwrap_or_default();
    for request in openssl::requests(process, args) {
        let container = event.container.as_deref().map_or("", |c| c.name.as_str());
        out.push(Detection {
            detector: SPEC.id,
            event: event.clone(),
            description: format!(
                "The openssl program {program} was asked by {} to load the shared object {} in container {}. The object is outside OpenSSL's installed directories.",
                request.by,
                escape_terminal(&request.path),
                escape_terminal(container),
            ),
            identity: vec![request.path.clone()],
            files: Vec::new(),
            severity: None,
            properties: properties(&request),
        });
    }
}

/// Judges an object that was loaded.
fn loaded(event: &EnrichedEvent, process: &Process, args: &[Text], out: &mut Vec<Detection>) {
    let Some(library) = known::loaded(event) else {
        return;
    };
    let path = library.path.to_json_string();
    let requests = openssl::requests(process, args);
    let request = matching(&requests, library, &path);
    let has_own_configuration = openssl::has_own_configuration(process, args);
    let program = process.binary.as_deref().map(|program| &program.path);
    let is_beside = || program.is_some_and(|at| openssl::is_beside(&at.to_json_string(), &path));
    // Whoever decides what is loaded decides also what it is called.
    let is_installed = openssl::is_in_library_root(&path)
        || openssl::is_ordinary_dependency(&path) && (!has_own_configuration || is_beside());
    // A package manager brings or renews them while the container runs.
    let is_package = request.is_none()
        && !has_own_configuration
        && openssl::is_ordinary_dependency(&path)
        && openssl::is_in_library_root(&path);
    let is_suspicious = match library.provenance {
        Provenance::Added | Provenance::Modified => !is_package,
        Provenance::BuiltIn => request.is_some() || (!is_installed && has_own_configuration),
        Provenance::Unknown(_) => request.is_some() || !is_installed,
    };
    if !is_suspicious {
        return;
    }
    let what = match request {
        Some(request) => format!(
            " The program is openssl; {} asked for the library.",
            request.by
        ),
        None => " The program is openssl; its arguments did not ask for the library.".to_owned(),
    };
    let mut detection = known::detection(&SPEC, event, Role::Library, library, what);
    detection.identity = vec![request.map_or(path, |request| request.path.clone())];
    detection.properties = request.map(properties).unwrap_or_default();
    out.push(detection);
}

/// The request that a loaded object answers: by path, or, when the path asked for was a link or a relative one, by being the
/// only request of a process for an object that is not installed.
fn matching<'a>(requests: &'a [Request], library: &Arc<File>, path: &str) -> Option<&'a Request> {
    let used = library.path_used.as_ref().map(Text::to_json_string);
    let by_path = requests
        .iter()
        .find(|request| request.path == path || Some(&request.path) == used.as_ref());
    by_path.or(match requests {
        [request]
            if !openssl::is_ordinary_dependency(path) && !openssl::is_in_library_root(path) =>
        {
            Some(request)
        }
        _ => None,
    })
}

fn properties(request: &Request) -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("Requested_Shared_Object", request.path.clone().into()),
        ("Requested_By", request.by.into()),
    ]
}
