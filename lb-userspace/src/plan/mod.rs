//! From the cluster's objects to what one Service should have in the maps.
//!
//! Owns: every rule about which endpoints a frontend uses and whose source address is rewritten, as pure functions,
//! one a step: `endpoints` are merged out of slices, `topology` and `lists` choose among them, `paths` says
//! which list a client gets, `record` makes the two ranges of it, `frontends` says where the Service is reached, `sources` by
//! whom, and [`plan_service`] puts it together. A plan speaks of addresses, never of map indices: those are the reconciler's.
//!
//! Must not know: maps, other Services, the clock.

mod config;
mod endpoints;
#[cfg(test)]
pub(crate) mod fixtures;
mod frontends;
mod lists;
mod local_endpoints;
mod paths;
mod planned;
mod record;
mod service;
mod sources;
#[cfg(test)]
mod table;
mod topology;

pub use config::{PlanConfig, SourceAddress, ThisNode};
pub use local_endpoints::local_endpoints;
pub use planned::{
    EmptyVerdict, EndpointList, EndpointState, PlannedBackend, PlannedList, PlannedRecord,
    PlannedServicePort, RecordRole, Rewrite, ServicePlan, ServicePortKey,
};
pub use service::plan_service;
