//! From what every Service should have in the maps to what the maps hold.
//!
//! Owns: the narrow view of the maps a Service lives in ([`maps`]). Must not know: Kubernetes objects, how a map
//! is reached, the clock.

pub mod maps;
