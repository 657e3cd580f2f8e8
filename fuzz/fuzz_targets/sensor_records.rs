//! Records of the eBPF ring buffer, of perf and of fanotify.

#![no_main]

use libfuzzer_sys::fuzz_target;

use sensor_ebpf::decode;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode::record(bytes);
    let _ = decode::perf_record(bytes);
    // Each event takes at least its header, so that a buffer cannot yield more than it holds.
    assert!(decode::fanotify_events(bytes).count() <= bytes.len());
});
