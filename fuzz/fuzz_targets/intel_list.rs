//! Lists of hashes: every line is an entry, nothing, or an error of that line.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut last = 0;
    intel::list::read(bytes, |number, _| {
        assert!(number > last, "lines are reported in order");
        last = number;
    })
    .expect("reading from memory");
});
