//! The operations of a build, their graph and its canonical form.
