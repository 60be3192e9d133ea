//! What became of Services.
//!
//! Owns: the types. Must not know: who reads them.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::model::ServiceKey;

use super::claims::AddressConflict;
use super::maps::MapError;
use super::names::NameTooLong;

/// What became of each Service that was looked at.
#[derive(Debug, Default)]
pub struct Report {
    /// By name; a Service may appear that did not change itself, but lost or won a frontend.
    pub services: BTreeMap<ServiceKey, ServiceReport>,
}

/// What became of one Service.
#[derive(Debug)]
pub struct ServiceReport {
    /// How many writes it took; or why it is as it was before: the old state, or nothing if it is new. It is tried again
    /// as soon as there may be room.
    pub outcome: Result<usize, ServiceError>,
    /// The frontends it has to do without (S46).
    pub conflicts: Vec<AddressConflict>,
}

impl Default for ServiceReport {
    /// Nothing to do, nothing in the way.
    fn default() -> Self {
        Self {
            outcome: Ok(0),
            conflicts: Vec::new(),
        }
    }
}

/// Why a Service is not as it should be.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// A map did not take a write.
    #[error("{cause}{}", if *.rolled_back { "" } else { ", and the writes before it could not be taken back" })]
    Map {
        /// The write's error.
        #[source]
        cause: MapError,
        /// Whether the Service is whole, in its old state.
        rolled_back: bool,
    },
    /// It cannot be named in the maps.
    #[error(transparent)]
    Name(#[from] NameTooLong),
}

impl ServiceError {
    /// Whether another try may succeed with nothing changed.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Map { cause, rolled_back } => !rolled_back || matches!(cause, MapError::Io { .. }),
            Self::Name(_) => false,
        }
    }
}

/// What a collection freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Service records, with slot ranges nobody else had.
    pub records: usize,
    /// Source ranges.
    pub source_ranges: usize,
    /// Backends.
    pub backends: usize,
    /// Bits of the prefilter.
    pub prefilter_bits: usize,
    /// Service-port ids.
    pub services: usize,
}

/// How much of the maps is taken, what waits to be freed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries of `frontends`.
    pub frontends: usize,
    /// Entries of `services`.
    pub records: usize,
    /// Entries of `slots`.
    pub slots: u64,
    /// Entries of `source_ranges`.
    pub source_ranges: usize,
    /// Entries of `backends`.
    pub backends: usize,
    /// Service-port ids.
    pub services: usize,
}
