//! What says of an image without overlay which files it has: the manifest beside a bundle, and the list of a storage's layers.

#![no_main]

use libfuzzer_sys::fuzz_target;

use enrich::provenance::{Manifest, parse_parent_layer};

fuzz_target!(|bytes: &[u8]| {
    if let Some(manifest) = Manifest::parse(std::path::Path::new("/bundle/x.mtree"), bytes) {
        let _ = manifest.find(bytes);
        let _ = manifest.find(b"/bin/sh");
    }
    if let Some(parent) = parse_parent_layer(bytes, "0") {
        assert!(!parent.contains('/'), "it stays in the directory of layers");
    }
});
