//! The agent and the command line.

pub mod model;
