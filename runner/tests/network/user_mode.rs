//! The network of an ordinary user's containers.
