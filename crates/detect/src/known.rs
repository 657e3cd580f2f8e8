//! What the detectors of the truth table share: files whose hash threat intelligence knows, told apart by provenance.

use std::{fmt::Write as _, sync::Arc};

use model::{
    detection::Detection,
    enriched::{Container, EnrichedEvent, EnrichedPayload, File},
    provenance::Provenance,
};

use crate::spec::Spec;

/// Raises `spec` for each program and script of an exec that is known and whose provenance is `wanted`.
pub(crate) fn programs(
    spec: &Spec,
    event: &EnrichedEvent,
    wanted: fn(Provenance) -> bool,
    out: &mut Vec<Detection>,
) {
    for (role, file) in executed(event) {
        if !file.matches.is_empty() && wanted(file.provenance) {
            out.push(detection(spec, event, role, file, known_as(file)));
        }
    }
}

/// Raises `spec` for a loaded library that is known and whose provenance is `wanted`.
pub(crate) fn libraries(
    spec: &Spec,
    event: &EnrichedEvent,
    wanted: fn(Provenance) -> bool,
    out: &mut Vec<Detection>,
) {
    if let Some(library) = loaded(event)
        && !library.matches.is_empty()
        && wanted(library.provenance)
    {
        let what = known_as(library);
        out.push(detection(spec, event, Role::Library, library, what));
    }
}

/// What a file was to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its program.
    Program,
    /// The script it interprets.
    Script,
    /// A library it loaded.
    Library,
}

/// The files that an event shows running: program and script of an exec, the script alone when a shell falls back to it (its
/// own exec was an event before).
pub(crate) fn executed(event: &EnrichedEvent) -> impl Iterator<Item = (Role, &Arc<File>)> {
    let process = event.process.as_deref();
    let program = match event.payload {
        EnrichedPayload::Exec => process.and_then(|process| process.binary.as_ref()),
        _ => None,
    };
    let script = match event.payload {
        EnrichedPayload::Exec | EnrichedPayload::ScriptRun => {
            process.and_then(|process| process.script.as_ref())
        }
        _ => None,
    };
    program
        .map(|file| (Role::Program, file))
        .into_iter()
        .chain(script.map(|file| (Role::Script, file)))
}

/// The library that an event shows being loaded. A program mapped by its own exec is no library, and nothing but its path is
/// known of that mapping once the process is gone.
pub(crate) fn loaded(event: &EnrichedEvent) -> Option<&Arc<File>> {
    let EnrichedPayload::LibraryLoad { library } = &event.payload else {
        return None;
    };
    let program = event.process.as_deref().and_then(|p| p.binary.as_deref());
    let is_own_program = program.is_some_and(|program| {
        program.path == library.path && (library.key.is_none() || program.key == library.key)
    });
    (!is_own_program).then_some(library)
}

/// A detection about one file; `what` ends its description.
pub(crate) fn detection(
    spec: &Spec,
    event: &EnrichedEvent,
    role: Role,
    file: &Arc<File>,
    what: String,
) -> Detection {
    let mut description = match role {
        Role::Program => format!("The program {} was run", file.path),
        Role::Script => format!("The script {} was run", file.path),
        Role::Library => format!("The library {} was loaded", file.path),
    };
    if role != Role::Program
        && let Some(program) = event.process.as_deref().and_then(|p| p.binary.as_deref())
    {
        let _ = write!(description, " by {}", program.path);
    }
    if let Some(container) = &event.container {
        let _ = write!(description, " in container {}", shown(&container.name));
    }
    let origin = origin(file, event.container.as_deref());
    let _ = write!(description, ". {origin}{what}");
    Detection {
        detector: spec.id,
        event: event.clone(),
        description,
        identity: identity(file),
        files: match role {
            Role::Program => Vec::new(),
            Role::Script | Role::Library => vec![Arc::clone(file)],
        },
        severity: None,
        properties: Vec::new(),
    }
}

/// Path and content: the same bytes in two places are two facts, and so are two contents of one place.
pub(crate) fn identity(file: &File) -> Vec<String> {
    let sha256 = file.sha256().map(|sha256| sha256.to_string());
    vec![file.path.to_json_string(), sha256.unwrap_or_default()]
}

fn known_as(file: &File) -> String {
    let mut text = String::new();
    for (index, indicator) in file.matches.iter().enumerate() {
        text.push_str(if index == 0 {
            " Its SHA-256 is on the list "
        } else {
            ", and on the list "
        });
        text.push_str(&shown(&indicator.list));
        if let Some(family) = &indicator.family {
            let _ = write!(text, " ({})", shown(family));
        }
    }
    text.push('.');
    text
}

fn origin(file: &File, container: Option<&Container>) -> String {
    let image = match container {
        Some(container) if !container.image.is_empty() => {
            format!("the image {}", shown(&container.image))
        }
        _ => "the container's image".to_owned(),
    };
    match file.provenance {
        Provenance::BuiltIn => format!("The file is part of {image}, unchanged."),
        Provenance::Modified => {
            format!("The file is part of {image} and was changed after the container started.")
        }
        Provenance::Added => match &file.evidence.same_content_as {
            Some(path) => format!(
                "The file is not part of {image} at this path; its bytes are those of the image's {path}."
            ),
            None => format!("The file is not part of {image}."),
        },
        Provenance::Unknown(reason) => format!(
            "Whether the file is part of {image} could not be told: {}.",
            reason.text()
        ),
    }
}

fn shown(text: &str) -> String {
    model::text::escape_terminal(text)
}
