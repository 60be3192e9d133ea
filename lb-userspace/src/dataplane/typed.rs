//! lb-common's types as keys and values of aya's maps.
//!
//! Owns: the one bridge from bytemuck's notion of plain data to aya's.

use bytemuck::Pod;

/// A value whose bytes may cross the kernel's border as they are.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct AsPod<T: Pod>(pub(super) T);

// SAFETY: aya asks that the type may be turned into bytes and made from any bytes. `bytemuck::Pod` promises just that
// (no padding, every bit pattern valid, no pointers), and `repr(transparent)` keeps it.
unsafe impl<T: Pod> aya::Pod for AsPod<T> {}
