//! Transport ports in network order.

use bytemuck::{Pod, Zeroable};

/// A port: the two bytes of the header, loaded as one native half-word.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Pod, Zeroable)]
pub struct Port(pub u16);

impl Port {
    /// No port: the key of an entry that stands for a whole address (S24).
    pub const NONE: Self = Self(0);

    /// From the number people write.
    #[must_use]
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The number people write.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }
}
