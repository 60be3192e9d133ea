//! Benchmarks: what the datapath costs a packet, beside the least it could cost otherwise.

pub mod datapath;
mod plot;
mod programs;
pub mod report;
