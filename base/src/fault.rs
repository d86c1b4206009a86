//! Whose fault an error is.
//!
//! The class decides the exit code, the wording and whether we ask for a bug report. "The user's
//! command exited 1" is not a fault: it is a result, and has its own type where it occurs.

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What we were given is wrong: a Dockerfile, a flag, an archive, an image.
    Input,
    /// The surroundings failed us: disk full, network down, permission missing.
    Environment,
    /// The user asked us to stop.
    Cancelled,
    /// We are wrong; the message asks for a report.
    Bug,
}

/// An error that knows its class.
pub trait Faulty {
    /// The class of this error.
    fn fault(&self) -> Fault;
}

/// The class of an I/O error when nothing more is known: a full disk, a broken device and a missing
/// right are the machine's trouble; a missing file is usually the input's.
pub fn of_io(error: &std::io::Error) -> Fault {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound | Kind::InvalidInput | Kind::InvalidData | Kind::UnexpectedEof => Fault::Input,
        Kind::NotADirectory | Kind::IsADirectory | Kind::AlreadyExists => Fault::Input,
        _ => Fault::Environment,
    }
}

/// An error and what caused it, the nearest cause first, as one text; what one of them repeats is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
