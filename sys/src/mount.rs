//! Mounts as data: attributes, and the options of an overlay.
//!
//! Nothing here mounts. [`crate::spawn`] does, in the mount namespace of a new process, so that the
//! host's mount table never changes. Source: `mount_setattr(2)` and the kernel's
//! `Documentation/filesystems/overlayfs.rst`.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

/// The most bytes that the options of `mount(2)` may have, without the final zero: one page.
const MAX_OPTIONS: usize = 4095;

/// The most lower directories of an overlay (`OVL_MAX_STACK` in the kernel).
pub const MAX_LAYERS: usize = 500;

/// Attributes of one mount (not of the filesystem behind it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttributes(u64);

impl MountAttributes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Writes are refused.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Setuid bits and file capabilities have no effect.
    pub const NO_SETUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device files cannot be opened.
    pub const NO_DEVICES: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Programs cannot be executed.
    pub const NO_EXECUTE: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Every read updates the access time.
    pub const STRICT_ACCESS_TIME: Self = Self(libc::MOUNT_ATTR_STRICTATIME);
    /// No read updates the access time.
    pub const NO_ACCESS_TIME: Self = Self(libc::MOUNT_ATTR_NOATIME);
    /// Reading a directory does not update its access time.
    pub const NO_DIRECTORY_ACCESS_TIME: Self = Self(libc::MOUNT_ATTR_NODIRATIME);
    /// Symbolic links are not followed.
    pub const NO_SYMLINKS: Self = Self(libc::MOUNT_ATTR_NOSYMFOLLOW);

    /// What tells how access times are updated; one value of several, not single attributes.
    const ACCESS_TIME: u64 = libc::MOUNT_ATTR__ATIME;

    /// These attributes and `other`.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These attributes without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The bits of `MOUNT_ATTR_…`.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The bits that have to be cleared for these attributes to be set (`mount_setattr(2)`, "attr_clr").
    pub(crate) const fn replaced_bits(self) -> u64 {
        let times = Self::STRICT_ACCESS_TIME.with(Self::NO_ACCESS_TIME).0;
        if self.0 & times == 0 { 0 } else { Self::ACCESS_TIME }
    }
}

/// What becomes of mounts that are made below a mount, here or where it was copied from
/// (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay where they are made.
    Private,
    /// Those of the original appear here.
    Slave,
    /// They appear in all copies.
    Shared,
    /// They stay where they are made, and the mount cannot be copied.
    Unbindable,
}

impl Propagation {
    /// The flag of `mount(2)`.
    pub(crate) const fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// The directories of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Read-only layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The directory that receives changes, and the kernel's work directory beside it.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Keep the overlay's own marks in `user.` attributes.
    pub userxattr: bool,
    /// Do not sync the upper directory when the overlay is unmounted.
    pub volatile: bool,
}

/// The options of an overlay, ready for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayOptions {
    /// The directory that the paths of the options start from: the deepest that they all share. Short
    /// paths make long chains fit.
    pub base: CString,
    /// The options in the form that fits.
    pub form: OverlayForm,
    layers: usize,
}

/// How options reach the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlayForm {
    /// As one text for `mount(2)`; every kernel has it, but the text is limited to one page.
    Text(CString),
    /// One by one with `fsconfig(2)`, layers as `lowerdir+`, for chains that one page cannot hold;
    /// kernel 6.8 or newer. `None` is a flag without a value.
    Parameters(Vec<(CString, Option<CString>)>),
}

/// Why directories cannot be an overlay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// There is no lower directory.
    #[error("an overlay needs at least one lower directory")]
    NoLayers,
    /// There are more than the kernel takes.
    #[error("an image of {0} layers cannot be mounted: the kernel takes at most {MAX_LAYERS}")]
    TooManyLayers(usize),
    /// A path is relative or has a zero byte.
    #[error("\"{}\" cannot be part of an overlay: the path is not absolute or has a zero byte", .0.display())]
    BadPath(PathBuf),
}

impl Overlay {
    /// The options that mount this overlay. Features that change the form of the upper directory
    /// (redirects, metadata-only copies, the inode index) are switched off, whatever the kernel's
    /// defaults are: what reads the directory later knows only the plain form. Redirects are not even
    /// followed, which with `userxattr` is the one setting that the kernel takes.
    pub fn options(&self) -> Result<OverlayOptions, OverlayError> {
        match self.lower.len() {
            0 => return Err(OverlayError::NoLayers),
            1..=MAX_LAYERS => {}
            other => return Err(OverlayError::TooManyLayers(other)),
        }
        let base = self.base()?;
        let text = self.text(&base);
        let form = if text.len() <= MAX_OPTIONS {
            OverlayForm::Text(c_string(text, &base)?)
        } else {
            OverlayForm::Parameters(self.parameters(&base)?)
        };
        let base = c_string(base.as_os_str().as_bytes().to_vec(), &base)?;
        Ok(OverlayOptions { base, form, layers: self.lower.len() })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let upper = self.upper.iter().flat_map(|(upper, work)| [upper, work]);
        self.lower.iter().chain(upper).map(PathBuf::as_path)
    }

    /// The deepest directory that all paths share.
    fn base(&self) -> Result<PathBuf, OverlayError> {
        let mut base: Option<PathBuf> = None;
        for path in self.paths() {
            if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
                return Err(OverlayError::BadPath(path.to_owned()));
            }
            base = Some(match base {
                None => path.to_owned(),
                Some(base) => base
                    .components()
                    .zip(path.components())
                    .take_while(|(a, b)| a == b)
                    .map(|(a, _)| a)
                    .collect(),
            });
        }
        base.ok_or(OverlayError::NoLayers)
    }

    fn text(&self, base: &Path) -> Vec<u8> {
        let mut text = b"lowerdir=".to_vec();
        for (index, layer) in self.lower.iter().enumerate() {
            if index > 0 {
                text.push(b':');
            }
            push_escaped(&mut text, relative(layer, base));
        }
        if let Some((upper, work)) = &self.upper {
            text.extend(b",upperdir=");
            push_escaped(&mut text, relative(upper, base));
            text.extend(b",workdir=");
            push_escaped(&mut text, relative(work, base));
        }
        for (name, value) in self.settings() {
            text.push(b',');
            text.extend(name.as_bytes());
            if let Some(value) = value {
                text.push(b'=');
                text.extend(value.as_bytes());
            }
        }
        text
    }

    fn parameters(&self, base: &Path) -> Result<Vec<(CString, Option<CString>)>, OverlayError> {
        let plain = |path: &Path| relative(path, base).to_vec();
        let escaped = |path: &Path| {
            let mut text = Vec::new();
            push_escaped(&mut text, relative(path, base));
            text
        };
        let mut parameters = Vec::new();
        for layer in &self.lower {
            parameters.push((c"lowerdir+".to_owned(), Some(c_string(plain(layer), layer)?)));
        }
        if let Some((upper, work)) = &self.upper {
            parameters.push((c"upperdir".to_owned(), Some(c_string(escaped(upper), upper)?)));
            parameters.push((c"workdir".to_owned(), Some(c_string(escaped(work), work)?)));
        }
        for (name, value) in self.settings() {
            let value = value.map(|value| c_string(value.into(), base)).transpose()?;
            parameters.push((c_string(name.into(), base)?, value));
        }
        Ok(parameters)
    }

    fn settings(&self) -> Vec<(&'static str, Option<&'static str>)> {
        let mut settings =
            vec![("redirect_dir", Some("nofollow")), ("metacopy", Some("off")), ("index", Some("off"))];
        if self.userxattr {
            settings.push(("userxattr", None));
        }
        if self.volatile && self.upper.is_some() {
            settings.push(("volatile", None));
        }
        settings
    }
}

impl fmt::Display for OverlayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an overlay of {} layers below {:?}", self.layers, self.base)
    }
}

fn relative<'a>(path: &'a Path, base: &Path) -> &'a [u8] {
    match path.strip_prefix(base) {
        Ok(rest) if rest.as_os_str().is_empty() => b".",
        Ok(rest) => rest.as_os_str().as_bytes(),
        Err(_) => path.as_os_str().as_bytes(),
    }
}

/// Colons separate layers and commas options; both, and the backslash itself, are escaped by one.
fn push_escaped(text: &mut Vec<u8>, path: &[u8]) {
    for byte in path {
        if matches!(byte, b':' | b',' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
}

fn c_string(bytes: Vec<u8>, path: &Path) -> Result<CString, OverlayError> {
    CString::new(bytes).map_err(|_| OverlayError::BadPath(path.to_owned()))
}

/// A detached copy of the mount at `path`, as it is in the mount namespace that `namespace` stands for. It can be
/// attached in another one.
///
/// # Errors
/// What the kernel says, also where a part of the path is a symbolic link.
pub(crate) fn copy_of(namespace: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::mount::{OpenTreeFlags, open_tree};
    // A thread of its own goes there, and does not come back.
    let copy = || {
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(&found, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("lap-mount".to_owned()).spawn_scoped(scope, copy)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(lower: &[&str], upper: Option<(&str, &str)>) -> Overlay {
        Overlay {
            lower: lower.iter().map(PathBuf::from).collect(),
            upper: upper.map(|(upper, work)| (upper.into(), work.into())),
            userxattr: false,
            volatile: true,
        }
    }

    fn text(options: &OverlayOptions) -> &str {
        match &options.form {
            OverlayForm::Text(text) => text.to_str().unwrap(),
            OverlayForm::Parameters(_) => "parameters",
        }
    }

    #[test]
    fn paths_are_relative_to_what_they_share() {
        let options = overlay(&["/s/2/fs", "/s/1/fs"], Some(("/s/3/fs", "/s/3/work"))).options().unwrap();
        assert_eq!(options.base.as_c_str(), c"/s");
        assert_eq!(
            text(&options),
            "lowerdir=2/fs:1/fs,upperdir=3/fs,workdir=3/work,redirect_dir=nofollow,metacopy=off,index=off,volatile"
        );
    }

    #[test]
    fn a_single_layer_is_its_own_base_and_never_volatile() {
        let options = overlay(&["/s/1"], None).options().unwrap();
        assert_eq!(options.base.as_c_str(), c"/s/1");
        assert_eq!(text(&options), "lowerdir=.,redirect_dir=nofollow,metacopy=off,index=off");
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        let options = overlay(&["/s/a:b", "/s/c,d"], Some(("/s/e\\f", "/s/w"))).options().unwrap();
        assert!(
            text(&options).starts_with("lowerdir=a\\:b:c\\,d,upperdir=e\\\\f,workdir=w,"),
            "{}",
            text(&options)
        );
    }

    #[test]
    fn long_chains_are_passed_one_by_one() {
        let long = |n: usize| format!("/s/{n:0>60}");
        let layers: Vec<String> = (0..100).map(long).collect();
        let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
        let OverlayForm::Parameters(parameters) =
            overlay(&layers, Some(("/s/u", "/s/w"))).options().unwrap().form
        else {
            panic!("100 layers of 60 characters fit into a page");
        };
        assert_eq!(parameters.iter().filter(|(name, _)| name.as_c_str() == c"lowerdir+").count(), 100);
        assert!(parameters.contains(&(c"upperdir".to_owned(), Some(c"u".to_owned()))));
        assert!(parameters.contains(&(c"volatile".to_owned(), None)));
    }

    #[test]
    fn impossible_overlays_say_why() {
        assert_eq!(overlay(&[], None).options(), Err(OverlayError::NoLayers));
        assert_eq!(overlay(&vec!["/a"; 501], None).options(), Err(OverlayError::TooManyLayers(501)));
        assert_eq!(overlay(&["a"], None).options(), Err(OverlayError::BadPath("a".into())));
    }
}
