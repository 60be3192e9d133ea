//! The agent and the command line.

pub mod model;
pub mod reconcile;
