//! Whole solves over fakes that count: what is looked up, what runs, and what is told of it.

mod caching;
mod concurrency;
mod failures;
mod sharing;
mod world;
