//! What comes later is told later where a detector needs to know what was before.

use model::enriched::EnrichedPayload;

use crate::{
    overlay::{Container, Pipeline, exec, facts, load},
    pipeline::large_file,
};

/// The dynamic loader of this machine, as every program maps it.
const LOADER: &str =
    r"cp $(sed -n 's|.* \(/.*/ld-[^/]*\)$|\1|p' /proc/self/maps | head -n 1) layer0/usr/lib/ld.so";

#[test]
fn what_the_dynamic_loader_maps_behind_a_large_program_waits_for_it() {
    let mut container = Container::start(LOADER, &[]);
    let mut pipeline = Pipeline::new();
    let fd = container.open("/usr/lib/ld.so");
    pipeline.observe(exec(&container, facts(&fd, "/usr/lib/ld.so"), Some(fd)));
    let fd = large_file(&mut container, "/tmp/program", 64);
    pipeline.observe(load(&container, facts(&fd, "/tmp/program"), Some(fd)));
    let fd = container.open("/usr/bin/other");
    pipeline.observe(load(&container, facts(&fd, "/usr/bin/other"), Some(fd)));
    let fd = container.open("/usr/bin/tool");
    pipeline.observe(load(&container, facts(&fd, "/usr/bin/tool"), Some(fd)));
    let events = pipeline.settle();
    let seen: Vec<_> = events
        .iter()
        .map(|event| match &event.payload {
            EnrichedPayload::LibraryLoad { library } => library.path.to_string(),
            _ => "exec".to_owned(),
        })
        .collect();
    assert_eq!(
        seen,
        ["exec", "/tmp/program", "/usr/bin/other", "/usr/bin/tool"]
    );
}
