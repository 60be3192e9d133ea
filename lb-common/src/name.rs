//! Map `names`: what a service port is called, so that the maps explain themselves without agent or API server, and so that a
//! restarted agent finds its ids again.

use bytemuck::{Pod, Zeroable};

/// Room for `namespace/name:port`: three names of at most 63 bytes.
pub const TEXT_LEN: usize = 192;

/// Value; the key is the service port's id.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Name {
    /// `namespace/name:port` (no `:port` where the port has no name), zero-filled.
    pub text: [u8; TEXT_LEN],
    /// Port number of the service, in network order.
    pub port: u16,
    /// Protocol number.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
}

const _: () = assert!(size_of::<Name>() == TEXT_LEN + 4);
