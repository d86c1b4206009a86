//! End-to-end tests of the real binary and Dockerfile conformance cases.
