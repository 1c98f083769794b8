//! What a load test shows: the result and what is made of it. Everything here is pure: figures in, text out.
pub mod compare;
pub mod figures;
pub mod histogram;
pub mod limit;
pub mod model;
pub mod text;
pub mod verdict;

#[cfg(test)]
mod example;

pub use histogram::{Histogram, Quantiles};
pub use model::{LoadResult, SCHEMA, Sample};
pub use verdict::verdict;
