//! Test support: hermetic stores, images made in code, a faulty registry, tree comparison.
