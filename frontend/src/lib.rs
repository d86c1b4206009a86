//! Definitions to build graphs: the Dockerfile frontend, and [`low_level`] for those of clients (LLB).
//!
//! [`lower`] takes what the Dockerfile parser gave, finds the stages that the target needs, expands variables, and
//! gives the graph of operations together with the config and history of the resulting image. It asks
//! one port for the configs of base images and does no I/O of its own. What of the language is not
//! supported yet is refused by name, never skipped.

mod args;
mod checks;
mod contexts;
mod error;
mod history;
pub mod low_level;
mod lower;
mod names;
mod options;
pub mod outline;
mod ports;
mod stage;

pub use contexts::NamedContext;
pub use error::LowerError;
pub use lower::{Checked, Lowered, LoweredImage, Scan, check, lower};
pub use options::{Entitlement, Options};
pub use ports::{HttpRequest, MetaResolver, ResolveError, ResolvedHttp, ResolvedImage};
