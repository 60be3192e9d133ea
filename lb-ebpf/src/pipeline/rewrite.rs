//! Stage 7: the entry's instruction, carried out on the packet.

use super::flow::Hit;
use crate::family::{ETH, Family};
use crate::hook::Hook;
use crate::packet;
use lb_common::checksum::{TTL_DELTA, update};
use lb_common::protocol::UDP;

/// Writes new addresses, ports and checksums. `l4` is the transport header's offset; `hop` decrements TTL or hop limit.
/// False when the kernel refused: the packet is then spoilt.
#[inline(always)]
pub fn apply<F: Family, H: Hook>(hook: &H, hit: &Hit<F>, l4: usize, proto: u8, hop: bool) -> bool {
    if F::HEADER == 20 {
        let Some(header) = packet::at::<[u8; 20]>(hook, ETH) else {
            return false;
        };
        let header: *mut u8 = header.cast();
        // SAFETY: `at` checked the bounds.
        unsafe {
            let sum = header.add(10).cast::<u16>();
            let mut checksum = update(sum.read_unaligned(), hit.delta_addr);
            if hop {
                let ttl = header.add(F::TTL);
                ttl.write(ttl.read().wrapping_sub(1));
                checksum = update(checksum, TTL_DELTA);
            }
            sum.write_unaligned(checksum);
            F::store(header.add(F::ADDRESSES), hit.new_pair);
        }
    } else {
        // Payload length, next header and, last, the hop limit; the addresses follow.
        let Some(head) = packet::at::<u32>(hook, ETH + 4) else {
            return false;
        };
        // SAFETY: `at` checked the bounds.
        let mut head = unsafe { head.read_unaligned() };
        if hop {
            head = head.wrapping_sub(1 << 24);
        }
        // SAFETY: both are four double words in this family.
        let pair = unsafe { core::mem::transmute_copy::<F::Pair, [u64; 4]>(&hit.new_pair) };
        if !hook.store_network6(ETH + 4, head, pair) {
            return false;
        }
    }
    let Some(ports) = packet::at::<u32>(hook, l4) else {
        return false;
    };
    // SAFETY: `at` checked the bounds.
    unsafe { ports.write_unaligned(hit.new_ports) };
    let at = l4 + if proto == UDP { 6 } else { 16 };
    hook.update_checksum(at, hit.delta_addr, hit.delta_port, proto == UDP)
}

/// Writes the Ethernet addresses of the next hop.
#[inline(always)]
pub fn ethernet<F: Family, H: Hook>(hook: &H, hit: &Hit<F>) -> bool {
    let Some(header) = packet::at::<[u8; ETH]>(hook, 0) else {
        return false;
    };
    // SAFETY: `at` checked the bounds.
    unsafe {
        header.cast::<u64>().write_unaligned(hit.macs);
        header
            .cast::<u8>()
            .add(8)
            .cast::<u32>()
            .write_unaligned(hit.macs_rest);
    }
    true
}
