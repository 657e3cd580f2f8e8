//! Headers of programs and libraries, read at whatever offsets they name.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = enrich::elf::parse(&mut |offset, length| {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(offset..).unwrap_or_default();
        rest.get(..length).unwrap_or(rest).to_vec()
    });
});
