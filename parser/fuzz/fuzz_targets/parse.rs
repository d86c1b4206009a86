//! Any bytes as a Dockerfile: the parser must not panic, and every finding must be showable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::SourceFile;

fuzz_target!(|bytes: &[u8]| {
    let parsed = parser::parse(bytes);
    let file = SourceFile::new("Dockerfile", parsed.text);
    for diagnostic in &parsed.diagnostics {
        file.render(diagnostic);
    }
    for instruction in &parsed.dockerfile.instructions {
        file.excerpt(instruction.span);
    }
});
