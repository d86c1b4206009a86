//! Sources that the context does not have because its ignore file leaves them out, and relative WORKDIRs.

use parser::ignore::IgnoreFile;
use parser::span::Span;

use super::Findings;

impl Findings {
    /// `CopyIgnoredFile`: `source` as expanded, a path of the build context. With `!` lines in the ignore
    /// file nothing is reported, since what is below a directory may still be there.
    pub(crate) fn copied_source(&self, keyword: &str, source: &str, ignored: &IgnoreFile, span: Span) {
        let path = cleaned(source);
        if path.is_empty() || ignored.has_exceptions() || !ignored.excludes(&path) {
            return;
        }
        let verb = if keyword == "ADD" { "Add" } else { "Copy" };
        let message = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
        self.add("CopyIgnoredFile", span, message, None);
    }

    /// `WorkdirRelativePath`: `directory` as expanded, in a stage in which no WORKDIR came before it.
    pub(crate) fn first_workdir(&self, directory: &str, span: Span) {
        if !directory.starts_with('/') {
            let message = format!(
                "Relative workdir {directory:?} can have unexpected results if the base image changes"
            );
            self.add("WorkdirRelativePath", span, message, format!("write /{directory}"));
        }
    }
}

/// The path relative to the context, without `.`, `..` and double slashes.
fn cleaned(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}
