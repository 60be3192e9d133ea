//! Map `affinity`: which backend a client of a service port had last (S32). A kernel LRU hash.

use crate::addr::Addr;
use bytemuck::{Pod, Zeroable};

/// Key: (service port, client), whatever address of the service was used.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct AffinityKey {
    /// The client.
    pub client: Addr,
    /// The service port.
    pub service: u32,
}

/// Value. It may be torn by a recycled hash element: the reader checks that the backend is the service's own and the epoch is
/// its present one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct AffinityValue {
    /// Index in `backends`.
    pub backend: u32,
    /// The backend's epoch when it was chosen (S33).
    pub epoch: u32,
    /// Jiffies (low half) of the client's last new connection.
    pub last_used: u32,
}

const _: () = assert!(size_of::<AffinityKey>() == 20);
const _: () = assert!(size_of::<AffinityValue>() == 12);
