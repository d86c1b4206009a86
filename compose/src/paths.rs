//! Paths that files name, relative to where they stand.

use std::path::{Component, Path, PathBuf};

/// Where relative paths begin, and what `~` is.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// An absolute directory.
    pub(crate) directory: PathBuf,
    /// The user's home, if it is known.
    pub(crate) home: Option<String>,
    /// Whether variables stay as they are written, so that what a text with one means is not known.
    pub(crate) raw: bool,
}

impl Base {
    /// An absolute path without `.` and `..`.
    pub(crate) fn resolve(&self, text: &str) -> PathBuf {
        let home = self.home.as_deref().filter(|_| text == "~" || text.starts_with("~/"));
        match home {
            Some(home) => clean(Path::new(&format!("{home}{}", &text[1..]))),
            None => clean(&self.directory.join(text)),
        }
    }

    /// Whether a text stays as it is, because a variable stands in it.
    pub(crate) fn leaves(&self, text: &str) -> bool {
        self.raw && text.contains('$')
    }

    /// The same as text.
    pub(crate) fn text(&self, text: &str) -> String {
        if self.leaves(text) {
            return text.to_owned();
        }
        self.resolve(text).to_string_lossy().into_owned()
    }
}

fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_clean() {
        let base = Base { directory: "/a/b".into(), home: Some("/home/u".to_owned()), raw: false };
        for (text, expected) in
            [(".", "/a/b"), ("./x/../y", "/a/b/y"), ("../../../z", "/z"), ("/q", "/q"), ("~/w", "/home/u/w")]
        {
            assert_eq!(base.text(text), expected, "{text}");
        }
    }
}
