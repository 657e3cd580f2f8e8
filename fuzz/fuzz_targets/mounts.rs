//! Mount tables and the options of overlays: a container with a user namespace chooses much of both.

#![no_main]

use libfuzzer_sys::fuzz_target;

use enrich::provenance::{MountTable, OverlayOptions};

fuzz_target!(|bytes: &[u8]| {
    let table = MountTable::parse(bytes);
    for mount in &table.mounts {
        let _ = OverlayOptions::parse(mount.super_options.as_bytes());
    }
    let _ = table.of_path(bytes);
    let _ = OverlayOptions::parse(bytes);
    assert!(model::mountinfo::mountinfo(bytes).count() <= bytes.len());
});
