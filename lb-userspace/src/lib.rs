//! The agent and the command line.

pub mod agent;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod health;
pub mod metrics;
pub mod model;
pub mod node;
pub mod plan;
pub mod reconcile;
pub mod snapshot;
pub mod source;
pub mod web;
