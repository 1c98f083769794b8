//! What a load test shows: the result and what is made of it. Everything here is pure: figures in, text out.
pub mod histogram;
pub mod model;

pub use histogram::{Histogram, Quantiles};
pub use model::{LoadResult, SCHEMA, Sample};
