//! Decides what of a build graph has to run, and runs it in parallel.
//!
//! # Keys
//!
//! Every vertex has up to two keys, and a result is saved under both:
//!
//! | key | made of | known |
//! |---|---|---|
//! | definition key | operation, platform, definition keys of the inputs; for a local directory, the content key of just what the operation selects from it | before anything runs |
//! | content key | operation, platform, content keys of what the operation uses of each input | once the inputs exist |
//!
//! # Three tries
//!
//! 1. *Definition.* Starting at the targets, a vertex is looked up by its definition key. A hit ends the
//!    branch: nothing below is looked up, pulled or touched. The content keys of local directories are
//!    part of this try, because they cost only a scan.
//! 2. *Inputs.* On a miss the inputs are made available, each by these same rules.
//! 3. *Content.* Once all inputs exist, the vertex is looked up by its content key. So a step that ran
//!    again and left the same files stops the rebuild there.
//!
//! Only then does it run. A vertex that must not use the cache skips 1 and 3. It may come out different
//! under its old definition, so everything above it skips 1 too, and can hit by content alone.
//!
//! The [`planner`] is pure: events in, actions out, no threads, no clock. [`driver`] is the one place
//! that has threads. What an operation does is behind the [`Ops`] port, which the engine implements.

pub mod driver;
pub mod event;
pub mod explain;
pub mod flight;
pub mod key;
pub mod limits;
pub mod planner;
pub mod ports;
pub mod stall;

pub use driver::{Failure, Schedule, SolveError, Solved, solve};
pub use flight::{Flights, Lead};
pub use limits::{Class, Limits};
pub use ports::{Executed, Ops, StepOutcome};
pub use stall::{WaitGraph, WaitingVertex};
