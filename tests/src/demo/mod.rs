//! The demo: any Kubernetes manifest as a cluster in miniature, with real traffic on it.
//!
//! `manifest` (what the files hold) → `plan` (pods on nodes) and `slices` (what the EndpointSlice controller would
//! make of them) → `cluster` (the lab, with an agent on each node) → `probe` (who may call what, and who should
//! answer) → `traffic` and `kill` → `report`. [`session`] goes through them in this order.
//!
//! `manifest`, `plan`, `slices` and `probe` are pure, so they are tested without a kernel.

mod cluster;
mod kill;
mod look_around;
mod manifest;
mod plan;
mod probe;
mod progress;
mod ranges;
mod report;
pub mod session;
mod slices;
mod topology_view;
mod traffic;

pub use report::Figures;
