//! The filter language: any text parses, or is an error that points inside the text.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = store::filter::parse(text) {
        assert!(error.position <= text.len());
    }
});
