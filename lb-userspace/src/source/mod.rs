//! Where the agent's Services, EndpointSlices and Nodes come from.
//!
//! Every source delivers batches of [`Update`](crate::model::Update)s over a channel: first everything
//! there is, closed by `InitialListsDone`, then what changes. [`dir`] reads a directory of manifests; the
//! Kubernetes API is its sibling [`kube`], the only place that may know a client library.
//!
//! Must not know: the planner, maps, devices.

pub mod dir;
pub mod events;
pub mod kube;
mod report;

pub use report::{Entry, LocatedProblem, Location, Outcome, Report};
