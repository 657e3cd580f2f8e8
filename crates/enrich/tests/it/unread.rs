//! Files whose process, and with it every way to them, was gone before anyone could look.

use std::sync::Arc;

use model::{
    Text,
    enriched::{EnrichedEvent, EnrichedPayload},
    event::{Cgroup, FileFacts, Observation, Payload},
    provenance::{MissingReason, Provenance, UnknownReason},
};

use crate::overlay::{Container, Pipeline, exec, facts, load};

/// Above every pid that there is.
const GONE: u32 = 1 << 30;

/// All that perf tells.
fn path_alone(path: &str) -> FileFacts {
    FileFacts {
        path: Text::from(path),
        missing: Some(MissingReason::ProcessGone),
        ..FileFacts::default()
    }
}

/// A process that is gone, in a mount namespace that was not looked at while it was there.
fn gone(mut observation: Observation) -> Observation {
    observation.event.process.pid = GONE;
    if let Payload::Exec(exec) = &mut observation.event.payload {
        exec.namespaces.mnt = 7;
    }
    observation
}

/// What comes of a process that ran a program of the image, mapped the file at `path` and was gone.
fn mapped_and_gone(path: &str) -> Vec<EnrichedEvent> {
    let container = Container::start("", &[]);
    let mut pipeline = Pipeline::new();
    let run = || {
        let fd = container.open("/usr/bin/tool");
        let mut run = exec(&container, facts(&fd, "/usr/bin/tool"), Some(fd));
        run.event.cgroup = Some(Arc::new(Cgroup {
            id: 0,
            path: Text::from(format!("/docker/{}", "5f".repeat(32)).as_str()),
        }));
        run
    };
    pipeline.observe(run());
    pipeline.settle();
    pipeline.observe(gone(run()));
    pipeline.observe(gone(load(&container, path_alone(path), None)));
    pipeline.settle()
}

fn provenance_of_library(events: &[EnrichedEvent]) -> Provenance {
    let library = events.iter().find_map(|event| match &event.payload {
        EnrichedPayload::LibraryLoad { library } => Some(library),
        _ => None,
    });
    library.unwrap_or_else(|| panic!("{events:?}")).provenance
}

#[test]
fn a_path_of_the_image_may_be_the_images_file_and_another_path_is_not() {
    assert_eq!(
        provenance_of_library(&mapped_and_gone("/usr/bin/other")),
        Provenance::Unknown(UnknownReason::NoContent)
    );
    assert_eq!(
        provenance_of_library(&mapped_and_gone("/tmp/gone.so")),
        Provenance::Added
    );
}
