//! End-to-end tests of the real `lap` binary. The tests are in `tests/`, one file for each thing that
//! people do; what they share is in `tests/common`.
