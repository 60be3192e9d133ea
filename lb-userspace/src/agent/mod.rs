//! The agent: from the source's updates and the node's changes to the maps.
//!
//! Owns: the order of events, which pure parts decide. Must not know: what a rule of Services means (`plan`), what a map entry
//! is (`reconcile`), how programs are attached (`dataplane`).

pub mod accepted;
pub mod cluster;
pub mod complaints;
pub mod conflicts;
pub mod devices;
pub mod host;
pub mod logging;
mod observer;
mod pace;
pub mod reserved;
mod run;
pub mod running;
mod servers;
pub mod settings;
mod sync;

pub use run::run;
