//! Views: pure functions from a [`Snapshot`] to rows, one view a file.
//!
//! Owns: what the rows hold, their order and their words. Field names in JSON and YAML are those of the row types in camelCase
//! and stay as they are. Must not know: the terminal, the clock, BPF.
//!
//! [`Snapshot`]: crate::snapshot::Snapshot

pub mod affinity;
pub mod backends;
pub mod devices;
pub mod flows;
pub mod raw;
pub mod reasons;
pub mod services;
pub mod status;
#[cfg(test)]
mod tests;
pub(super) mod words;

use crate::snapshot::Snapshot;

/// Which namespaces a view shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them, and what has no name.
    #[default]
    All,
    /// One.
    Namespace(String),
}

impl Scope {
    /// Whether a service port is in it.
    fn holds(&self, snapshot: &Snapshot, service: u32) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(wanted) => snapshot.namespace(service).as_deref() == Some(wanted),
        }
    }
}
