pub mod link;
pub mod measure;
pub mod source;
pub mod tcp;
pub mod world;
