//! What is said of a container's streams by those who are not connected with them yet.

use serde::{Deserialize, Serialize};

/// What is said of a container's streams before somebody is connected with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredStreams {
    /// Whether its input, its output and its errors will be connected.
    pub attached: [bool; 3],
    /// Whether the input ends with that of the first who is connected.
    pub once: bool,
    /// Lines and columns of its terminal, where that is known.
    pub console: Option<(u16, u16)>,
}
