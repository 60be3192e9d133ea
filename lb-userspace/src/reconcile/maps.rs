//! The maps a Service lives in, as the reconciler sees them.
//!
//! Owns: the trait that the dataplane, the in-memory fake and the faulty double implement, and its errors.
//! Must not know: system calls, mappings, what the entries mean to each other.

use std::collections::BTreeSet;
use std::io;

use lb_common::backend::Backend;
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::name::Name;
use lb_common::service::{ServiceRecord, SlotRange};
use lb_common::slot::Slot;
use lb_common::source_range::{SourceRangeKey, SourceRangeOwner};
use thiserror::Error;

/// Why a map did not do as it was told.
#[derive(Debug, Error)]
pub enum MapError {
    /// There is no room for another entry.
    #[error("map {map} is full")]
    Full {
        /// The map, by its name in [`lb_common::layout::maps`].
        map: &'static str,
    },
    /// Anything else.
    #[error("map {map}: {source}")]
    Io {
        /// The map, by its name in [`lb_common::layout::maps`].
        map: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How many entries each map was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// Entries of `frontends`.
    pub frontends: u32,
    /// Entries of `services`; index 0 stays free.
    pub records: u32,
    /// Entries of `slots`.
    pub slots: u32,
    /// Entries of `backends`; index 0 stays free, so that 0 means "none" in a flow.
    pub backends: u32,
    /// Service-port ids: entries of `service_stats`, index 0 included and never given out; `names` takes as many.
    pub services: u32,
    /// Entries of `source_ranges`.
    pub source_ranges: u32,
}

/// What the reconciler would like to free, asked of the flow tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowQuery {
    /// Indices in `backends`.
    pub backends: BTreeSet<u32>,
    /// Bits of the prefilter ([`lb_common::prefilter::bit`]).
    pub prefilter_bits: BTreeSet<u32>,
}

/// The part of a [`FlowQuery`] that must stay.
pub type FlowsNaming = FlowQuery;

/// Reads and writes of the maps of Services. A write that returns an error changed nothing; every write may be
/// repeated.
///
/// The order of calls is the order in which a packet on another CPU must see their effects: an implementation that
/// stores into mapped memory orders its stores accordingly.
pub trait ServiceMaps {
    /// The sizes of the maps; they do not change.
    fn capacities(&self) -> Capacities;

    /// Every entry of `frontends`, in any order.
    ///
    /// # Errors
    /// The map cannot be read; the same holds for the other readers.
    fn read_frontends(&self) -> Result<Vec<(FrontendKey, FrontendValue)>, MapError>;

    /// Every entry of `names` by service-port id, in any order.
    ///
    /// # Errors
    /// See [`Self::read_frontends`].
    fn read_names(&self) -> Result<Vec<(u32, Name)>, MapError>;

    /// Every entry of `services` whose `service` is not 0, by index.
    ///
    /// # Errors
    /// See [`Self::read_frontends`].
    fn read_records(&self) -> Result<Vec<(u32, ServiceRecord)>, MapError>;

    /// Every entry of `backends` that is not all zero, by index: a freed one (`service` 0) keeps its generation and
    /// epoch, from which its next owner goes on.
    ///
    /// # Errors
    /// See [`Self::read_frontends`].
    fn read_backends(&self) -> Result<Vec<(u32, Backend)>, MapError>;

    /// The content of a range of `slots`, which lies inside the map.
    ///
    /// # Errors
    /// See [`Self::read_frontends`].
    fn read_slots(&self, range: SlotRange) -> Result<Vec<Slot>, MapError>;

    /// Every entry of `source_ranges`, in any order.
    ///
    /// # Errors
    /// See [`Self::read_frontends`].
    fn read_source_ranges(&self) -> Result<Vec<(SourceRangeKey, SourceRangeOwner)>, MapError>;

    /// Every bit of the prefilter that is set.
    ///
    /// # Errors
    /// See [`Self::read_frontends`].
    fn read_prefilter(&self) -> Result<BTreeSet<u32>, MapError>;

    /// Points a frontend at a record: the one store that switches readers over.
    ///
    /// # Errors
    /// [`MapError::Full`], or the map cannot be written; the same holds for the other writers.
    fn put_frontend(&mut self, key: &FrontendKey, value: FrontendValue) -> Result<(), MapError>;

    /// Removes a frontend; one that is absent is no error.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn delete_frontend(&mut self, key: &FrontendKey) -> Result<(), MapError>;

    /// Names a service-port id.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn put_name(&mut self, id: u32, name: &Name) -> Result<(), MapError>;

    /// Removes the name of an id; one that is absent is no error.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn delete_name(&mut self, id: u32) -> Result<(), MapError>;

    /// Sets the statistics of an id to zero on every CPU: its last owner's are not its next one's.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn clear_stats(&mut self, id: u32) -> Result<(), MapError>;

    /// Writes a record no frontend points at.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn write_record(&mut self, index: u32, record: &ServiceRecord) -> Result<(), MapError>;

    /// Writes a backend. Readers may be looking: an index in use keeps address, port, protocol and service, so only
    /// generation, epoch and flags may differ, and each of those is one store.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn write_backend(&mut self, index: u32, backend: &Backend) -> Result<(), MapError>;

    /// Writes slots no record names, from `offset` on.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn write_slots(&mut self, offset: u32, slots: &[Slot]) -> Result<(), MapError>;

    /// Adds a range to a set no record names.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn put_source_range(&mut self, key: &SourceRangeKey, owner: SourceRangeOwner) -> Result<(), MapError>;

    /// Removes a range from a set no record names; one that is absent is no error.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn delete_source_range(&mut self, key: &SourceRangeKey) -> Result<(), MapError>;

    /// Sets a bit of the prefilter.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn set_prefilter_bit(&mut self, bit: u32) -> Result<(), MapError>;

    /// Clears a bit of the prefilter.
    ///
    /// # Errors
    /// See [`Self::put_frontend`].
    fn clear_prefilter_bit(&mut self, bit: u32) -> Result<(), MapError>;

    /// Which of `query` the flow tables still name: a backend index in any entry, or a bit that the source or the
    /// destination of any entry's key falls on. An entry past its timeout does not count; one whose backend's
    /// generation has moved on does. One scan of the tables answers the whole query.
    ///
    /// # Errors
    /// The tables cannot be read.
    fn flows_naming(&mut self, query: &FlowQuery) -> Result<FlowsNaming, MapError>;
}
