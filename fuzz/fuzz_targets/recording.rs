//! A recording: any bytes are a header and events, or an error; never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(events) = model::recording::read(bytes) {
        for event in events.flatten() {
            // What was read can be written and read again.
            let mut line = Vec::new();
            model::recording::write_event(&mut line, &event).expect("writing to memory");
            let again = serde_json::from_slice(&line);
            assert!(again.is_ok_and(|again: model::enriched::EnrichedEvent| again == event));
        }
    }
});
