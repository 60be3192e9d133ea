//! What a node programs for the objects of a cluster, as text, and the agent's pure parts that bring it about in maps in memory.
//!
//! [`text`] reads what `xvip dump` prints, so that maps in memory and maps in a kernel read alike; [`memory`] is an agent without
//! kernel; [`diff`] shows where two such texts differ.
//!
//! Must not know: what the maps should hold.

pub mod diff;
pub mod memory;
pub mod text;

pub use diff::{diff, same};
pub use memory::{Connection, Held, InMemory};
