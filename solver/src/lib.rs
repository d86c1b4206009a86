//! Cache keys, planning and scheduling of a build graph.
