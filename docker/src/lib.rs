//! Docker's Engine API over the engine.
//!
//! [`documents`] has the shapes in which Docker shows things; `lap inspect` and its like show the same. [`mod@api`] has the calls: each
//! reads its request, asks the engine, and answers with documents or streams. Nothing is kept here that outlives a call, but for the
//! processes that clients have described and not started yet: the store is where everything is.

pub mod api;
pub mod documents;
pub mod filters;
pub mod units;

pub use api::{Api, ApiError, Commands, router};
