//! What a load test shows: the result and what is made of it. Figures in, text out; only `output` and `view` write.
pub mod compare;
pub mod figures;
pub mod histogram;
pub mod html;
pub mod limit;
pub mod model;
pub mod output;
pub mod promises;
pub mod summary;
pub mod text;
pub mod verdict;
pub mod view;

#[cfg(test)]
mod example;

pub use histogram::{Histogram, Quantiles};
pub use model::{LoadResult, SCHEMA, Sample};
pub use output::{Output, ReportArgs};
pub use verdict::verdict;
pub use view::View;
