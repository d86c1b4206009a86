//! Dockerfile AST to build graph and image config.
