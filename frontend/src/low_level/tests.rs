//! Definitions become graphs.
