//! The filter language: any text compiles, or is an error that points inside the text. What is printed is a filter again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use store::filter::{DEPTH_MAX, FILTER_BYTES_MAX, check, parse};

fuzz_target!(|text: &str| {
    if let Err(error) = check(text) {
        assert!(text.is_char_boundary(error.position), "{error}");
    }
    let Ok(expression) = parse(text) else { return };
    let printed = expression.to_string();
    match parse(&printed) {
        Ok(again) => assert_eq!(again.to_string(), printed),
        // All parentheses are printed, those too that need not be written.
        Err(error) => assert!(
            printed.len() > FILTER_BYTES_MAX || deepest(&printed) > DEPTH_MAX,
            "{printed}: {error}"
        ),
    }
});

fn deepest(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
