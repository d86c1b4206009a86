//! Any text as the options of RUN --mount and as the flags around them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::SourceFile;
use parser::ast::InstructionKind;

fuzz_target!(|text: &str| {
    let dockerfile = format!("FROM scratch\nRUN --mount={text} true\n");
    let parsed = parser::parse(dockerfile.as_bytes());
    let file = SourceFile::new("Dockerfile", parsed.text);
    for diagnostic in &parsed.diagnostics {
        file.render(diagnostic);
    }
    for instruction in &parsed.dockerfile.instructions {
        if let InstructionKind::Run(run) = &instruction.kind {
            for mount in &run.mounts {
                file.excerpt(mount.raw.span);
            }
        }
    }
});
