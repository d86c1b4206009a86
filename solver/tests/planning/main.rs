//! The planner alone, driven by hand: any order of events, any graph, large graphs.

mod drive;
mod model;
mod scale;
