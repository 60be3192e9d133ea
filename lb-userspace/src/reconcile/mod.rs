//! From what every Service should have in the maps to what the maps hold.
//!
//! Owns: indices and who refers to them. A plan becomes an ordered list of writes (`stage`), each carried out in the
//! maps and in their mirror (`op`, `mirror`); a Service the maps cannot take is left as it was. Nothing that a
//! reader may still look at is written over: new content goes to a new place, one store switches to it, and what is
//! then idle is freed after a grace (`collect`), a backend's index only when no flow names it. A restart begins with
//! what the maps hold (`restore`).
//!
//! Must not know: Kubernetes objects, how a map is reached, the clock (time is an argument).

mod claims;
mod collect;
pub mod fake;
mod index;
pub mod maps;
mod mirror;
pub mod names;
mod op;
mod ranges;
mod reconciler;
mod report;
mod restore;
mod settle;
mod source_sets;
mod stage;
#[cfg(test)]
mod tests;

pub use claims::AddressConflict;
pub use reconciler::{GRACE, Reconciler};
pub use report::{Collected, Report, ServiceError, ServiceReport, Usage};
