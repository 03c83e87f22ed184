//! Keys as they are written.

#![no_main]

#[path = "../../bounds/bodies.rs"]
#[allow(dead_code, reason = "each target has one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &str| bodies::key(input));
