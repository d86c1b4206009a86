//! Build contexts, written file by file.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory to build from. Parent directories are made as needed; files have mode 0644, directories 0755,
/// whatever the process's umask is.
pub struct Context {
    dir: TempDir,
}

impl Context {
    /// An empty context below `parent`.
    pub fn create(parent: &Path) -> Self {
        let dir =
            tempfile::Builder::new().prefix("context-").tempdir_in(parent).expect("a temporary directory");
        set_mode(dir.path(), 0o755);
        Self { dir }
    }

    /// The context's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes `Dockerfile`.
    pub fn dockerfile(&self, text: &str) -> &Self {
        self.file("Dockerfile", text)
    }

    /// Writes a file with mode 0644, over an older one if there is one.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.place(path);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        set_mode(&path, 0o644);
        self
    }

    /// Twenty steps on top of the image `base`: ten COPYs of five files each, between ten RUNs.
    pub fn twenty_steps(&self, base: &str) -> &Self {
        let mut dockerfile = format!("FROM {base}\n");
        for step in 0..10 {
            for file in 0..5 {
                self.file(&format!("part{step}/file{file}"), format!("file {file} of part {step}\n"));
            }
            dockerfile += &format!("COPY part{step}/ /part{step}/\nRUN echo {step} > /ran{step}\n");
        }
        self.dockerfile(&dockerfile)
    }

    /// Makes a directory with mode 0755.
    pub fn dir(&self, path: &str) -> &Self {
        let path = self.place(path);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        set_mode(&path, 0o755);
        self
    }

    /// Makes a symlink at `path` with the text `target`, which may name anything.
    pub fn symlink(&self, path: &str, target: &str) -> &Self {
        let path = self.place(path);
        symlink(target, &path).unwrap_or_else(|error| panic!("symlink {}: {error}", path.display()));
        self
    }

    /// Makes another name for the file at `existing`.
    pub fn hard_link(&self, path: &str, existing: &str) -> &Self {
        let path = self.place(path);
        std::fs::hard_link(self.dir.path().join(existing), &path)
            .unwrap_or_else(|error| panic!("link {}: {error}", path.display()));
        self
    }

    /// Sets permission bits, the setuid, setgid and sticky bits included.
    pub fn mode(&self, path: &str, mode: u32) -> &Self {
        set_mode(&self.dir.path().join(path), mode);
        self
    }

    /// Removes a file or a directory with what is in it.
    pub fn remove(&self, path: &str) -> &Self {
        let path = self.dir.path().join(path);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
        self
    }

    /// The full path of a name in the context, with its parent directory made.
    fn place(&self, path: &str) -> PathBuf {
        assert!(Path::new(path).is_relative(), "a path in a context is relative: {path}");
        let full = self.dir.path().join(path);
        let mut missing: Vec<&Path> = Vec::new();
        let mut parent = full.parent().expect("a path in a directory has a parent");
        while !parent.exists() {
            missing.push(parent);
            parent = parent.parent().expect("the context's directory exists");
        }
        for dir in missing.iter().rev() {
            std::fs::create_dir(dir).unwrap_or_else(|error| panic!("create {}: {error}", dir.display()));
            set_mode(dir, 0o755);
        }
        full
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .unwrap_or_else(|error| panic!("set the mode of {}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn what_is_written_is_what_is_there() {
        let parent = TempDir::new().unwrap();
        let context = Context::create(parent.path());
        context.file("a/b/c", "x").symlink("l", "../outside").hard_link("d", "a/b/c").mode("a/b/c", 0o4755);
        context.file("gone", "").remove("gone").dir("empty");
        let expected = Tree::new()
            .dir("a", 0o755)
            .dir("a/b", 0o755)
            .file("a/b/c", 0o4755, "x")
            .hard_link("d", "a/b/c")
            .dir("empty", 0o755)
            .symlink("l", "../outside");
        expected.assert_is(&Tree::of_dir(context.path()).without_owners());
    }
}
