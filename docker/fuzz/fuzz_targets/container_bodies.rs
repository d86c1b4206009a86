//! Any bytes as the body of a call that makes or changes a container.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    docker::api::containers::read_any(bytes);
});
