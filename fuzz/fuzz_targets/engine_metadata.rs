//! What engines leave on disk: JSON files, databases, logs, command lines, control group paths. A container may have written part
//! of it. Good seeds are the files under `crates/enrich/testdata/containers`.

#![no_main]

use libfuzzer_sys::fuzz_target;

use enrich::containers::{argv, cgroup, containerd, crio, docker, libpod, log, oci, podman};

fuzz_target!(|bytes: &[u8]| {
    let _ = cgroup::parse(bytes);
    let _ = argv::parse(bytes, std::path::Path::new("/bundle"));
    if let Ok(mut config) = oci::parse_config(bytes, false) {
        let crio = ("io.container.manager".to_owned(), "cri-o".to_owned());
        config.annotations.extend([crio]);
        let _ = crio::container(&config);
    }
    let _ = oci::parse_state(bytes);
    let _ = docker::parse_config(bytes);
    let _ = docker::parse_privileged(bytes);
    let _ = docker::parse_data_root(bytes);
    let _ = docker::parse_repo_digest(bytes, "example.test/app:v1", "sha256:0");
    let _ = podman::parse_containers(bytes, "0");
    let _ = podman::parse_image_digest(bytes, "0");
    let _ = libpod::look_up_bolt(&bytes, "0");
    let (database, wal) = bytes.split_at(bytes.len() / 2);
    let _ = libpod::look_up_sqlite(database.to_vec(), wal, "0");
    let _ = containerd::look_up(&bytes, "default", "ct1", Some("0"));
    for format in [log::Format::Json, log::Format::Cri, log::Format::Plain] {
        let _ = log::parse_tail(bytes, false, format, usize::MAX);
    }
});
