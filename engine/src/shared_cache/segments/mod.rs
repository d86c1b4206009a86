//! Records and small layers that are written together, for places where every request costs something.
//!
//! A [`Segment`] has the records of several steps and says where in which *pack*, a blob of small layers one after another, each layer
//! is. It is found like a record, under the keys of a few of its steps ([`names`]); who has found one knows all the others. A
//! [`Packed`] place reads both kinds, and [`packing`] writes them.

mod format;
mod names;
mod packed;
mod packing;

pub(super) use self::format::{Cut, Segment};
pub(super) use self::packed::Packed;
pub(super) use self::packing::Packs;
