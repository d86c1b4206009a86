//! Values that every layer of Lapstrake shares.
//!
//! Only plain data and small pure functions live here: names (digests, references, platforms), the
//! OCI image documents, the events a build emits, the classes of fault, and the cancel token. Nothing
//! in this crate touches a file, a socket, the clock or the environment.

pub mod boolean;
pub mod bytes;
pub mod cancel;
pub mod content_hash;
pub mod digest;
pub mod event;
pub mod fault;
pub mod file_change;
pub mod git_url;
pub mod image;
pub mod mount;
pub mod platform;
pub mod reference;
pub mod time;

pub use cancel::CancelToken;
pub use content_hash::{ContentHash, KeyHasher};
pub use digest::{Digest, Key};
pub use event::{Event, EventSink};
pub use fault::{Fault, Faulty};
pub use file_change::{FileChange, FileDifference};
pub use git_url::GitUrl;
pub use mount::Mount;
pub use platform::Platform;
pub use reference::Reference;
pub use time::Timestamp;
