//! Files whose process, and with it every way to them, was gone before anyone could look.

use std::sync::Arc;

use enrich::Config;
use model::{
    Text,
    enriched::{EnrichedEvent, EnrichedPayload},
    event::{Cgroup, FileFacts, Loss, LossSource, Observation, Payload},
    provenance::{MissingReason, Provenance, UnknownReason},
};

use crate::{
    overlay::{Container, Pipeline, exec, facts, load},
    pipeline::large_file,
};

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
    mapped_by(&container, "/usr/bin/tool", path)
}

fn mapped_by(container: &Container, program: &str, path: &str) -> Vec<EnrichedEvent> {
    let mut pipeline = Pipeline::new();
    let run = || {
        let fd = container.open(program);
        let mut run = exec(container, facts(&fd, program), Some(fd));
        run.event.cgroup = Some(Arc::new(Cgroup {
            id: 0,
            path: Text::from(format!("/docker/{}", "5f".repeat(32)).as_str()),
        }));
        run
    };
    pipeline.observe(run());
    pipeline.settle();
    pipeline.observe(gone(run()));
    pipeline.observe(gone(load(container, path_alone(path), None)));
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

#[test]
fn a_library_that_no_image_ships_is_a_loss_when_it_is_gone() {
    let unhashed = |path: &str| {
        let events = mapped_and_gone(path);
        events.into_iter().find_map(|event| match event.payload {
            EnrichedPayload::Unhashed { files } => Some(files),
            _ => None,
        })
    };
    let one = [(MissingReason::ProcessGone, 1)].into();
    assert_eq!(unhashed("/tmp/gone.so"), Some(one));
    // Of the last process of an ordinary container as little is known.
    assert_eq!(unhashed("/usr/bin/other"), None);
}

#[test]
fn the_mapping_of_a_program_that_was_brought_along_is_no_loss() {
    let mut container = Container::start("", &[]);
    container.sh("cp /usr/bin/tool /opt/new");
    let events = mapped_by(&container, "/opt/new", "/opt/new");
    assert_eq!(provenance_of_library(&events), Provenance::Added);
    let is_loss = |event: &EnrichedEvent| matches!(event.payload, EnrichedPayload::Unhashed { .. });
    assert!(!events.iter().any(is_loss), "{events:?}");
}

#[test]
fn what_is_still_being_read_at_the_end_is_told() {
    let mut container = Container::start("", &[]);
    let mut pipeline = Pipeline::with_config(Config {
        hash_bytes_max: u64::MAX,
        ..Config::default()
    });
    let cgroup = format!("/docker/{}", "5f".repeat(32));
    let cgroup = Some(Arc::new(Cgroup {
        id: 0,
        path: Text::from(cgroup.as_str()),
    }));
    let fd = large_file(&mut container, "/opt/huge", 100_000);
    let mut run = exec(&container, facts(&fd, "/opt/huge"), Some(fd));
    run.event.cgroup = cgroup.clone();
    pipeline.observe(run);
    let fd = container.open("/usr/bin/other");
    pipeline.observe(load(&container, facts(&fd, "/usr/bin/other"), Some(fd)));
    // Nobody announced its process, and nobody will.
    let mut unknown = gone(load(&container, path_alone("/tmp/gone.so"), None));
    unknown.event.process.start_ns = 7;
    unknown.event.cgroup = cgroup;
    pipeline.observe(unknown);
    assert!(pipeline.events.is_empty());

    pipeline.enricher.finish(&mut pipeline.events);
    let payloads: Vec<_> = pipeline.events.iter().map(|event| &event.payload).collect();
    let files = [(MissingReason::Overload, 1)].into();
    let lost = Loss {
        source: LossSource::UnknownProcess,
        count: 1,
    };
    let [
        EnrichedPayload::Exec,
        EnrichedPayload::LibraryLoad { library },
        told @ ..,
    ] = payloads.as_slice()
    else {
        panic!("{payloads:?}");
    };
    assert!(library.sha256().is_some());
    assert_eq!(
        told,
        [
            &EnrichedPayload::Unhashed { files },
            &EnrichedPayload::Loss(lost)
        ]
    );
}
