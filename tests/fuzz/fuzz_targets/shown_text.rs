//! Text of a server on its way to the terminal.

#![no_main]

#[path = "../../bounds/bodies.rs"]
#[allow(dead_code, reason = "each target has one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &str| bodies::shown_text(input));
