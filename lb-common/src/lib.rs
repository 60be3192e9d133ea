//! Layouts and pure algorithms that xvip's kernel programs and its user space share.
//!
//! Owns: the bytes of every BPF map (one module a map), the types that keep network byte order out of arithmetic,
//! checksum and hash arithmetic, the life of a flow, and the reasons a verdict can have.
//! Knows nothing of aya, of Kubernetes, of packets' memory, or of the clock: time is an argument.
#![no_std]
#![expect(
    clippy::cast_possible_truncation,
    reason = "taking the low bits of words is what this arithmetic is about"
)]

pub mod addr;
pub mod affinity;
pub mod backend;
pub mod checksum;
pub mod device;
pub mod flow;
pub mod frontend;
pub mod hash;
pub mod layout;
pub mod lifetime;
pub mod name;
pub mod net;
pub mod node_addr;
pub mod port;
pub mod prefilter;
pub mod protocol;
pub mod reason;
pub mod service;
pub mod settings;
pub mod slot;
pub mod source_range;
pub mod stats;
