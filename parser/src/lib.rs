//! Dockerfile text to AST and diagnostics, word expansion, .dockerignore.
