//! Where a packet goes from here: the kernel's own routes and neighbours.

use crate::family::Family;
use crate::hook::Hook;
use crate::maps::DEVICES;
use aya_ebpf::helpers::bpf_fib_lookup;
use lb_common::device::{self, LOOPBACK_IFINDEX};
use lb_common::flow::{FORWARD_MASK, FORWARD_SHIFT, FlowEntry, Forward};

/// `struct bpf_fib_lookup` (include/uapi/linux/bpf.h), the fields that are used by name.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FibLookup {
    family: u8,
    l4_protocol: u8,
    sport: u16,
    dport: u16,
    tot_len: u16,
    ifindex: u32,
    tos: u32,
    src: [u32; 4],
    dst: [u32; 4],
    vlan: u32,
    /// Source MAC, then destination MAC.
    macs: [u16; 6],
}

const _: () = assert!(size_of::<FibLookup>() == 64);

/// BPF_FIB_LKUP_RET_SUCCESS
const FOUND: i64 = 0;
/// BPF_FIB_LKUP_RET_NO_NEIGH: a route, and no known neighbour.
const NO_NEIGHBOUR: i64 = 7;

/// Has `entry`'s packets received by device `ifindex`: addressed to its own MAC, as from a wire.
#[inline(always)]
pub fn receive_by<F: Family>(entry: &mut FlowEntry<F::Addr>, ifindex: u32) {
    let mac = DEVICES
        .get(ifindex)
        .map_or(0, |device| device.word & device::MAC_MASK);
    entry.ifindex = ifindex;
    entry.macs = [mac as u32, (mac >> 32 | mac << 16) as u32, (mac >> 16) as u32];
}

/// Looks up the way to `dst` for packets that come from where this one does, and puts it into `entry`: device, addresses, and how
/// to forward. False when there is no way.
#[inline(always)]
pub fn resolve<F: Family, H: Hook>(
    hook: &H,
    fib: *mut FibLookup,
    entry: *mut FlowEntry<F::Addr>,
    dst: F::Addr,
) -> bool {
    // To routing rules, what the host sends comes in by the loopback device.
    let from = if hook.place().is_ingress() {
        hook.ifindex()
    } else {
        LOOPBACK_IFINDEX
    };
    let [d0, d1, d2, d3] = F::in_sixteen(dst);
    let words = fib.cast::<u64>();
    // Whole words, one by one: LLVM would make a call of a longer run of zeros. No length is given: the kernel would refuse what
    // exceeds the route's MTU.
    // SAFETY: this CPU's scratch, eight double words.
    unsafe {
        words.write_volatile(F::AF as u64);
        words.add(1).write_volatile(from as u64);
        words.add(2).write_volatile(0);
        words.add(3).write_volatile(0);
        words.add(4).write_volatile(d0 as u64 | (d1 as u64) << 32);
        words.add(5).write_volatile(d2 as u64 | (d3 as u64) << 32);
        words.add(6).write_volatile(0);
        words.add(7).write_volatile(0);
    }
    // SAFETY: the parameters are this CPU's own.
    let found = unsafe { bpf_fib_lookup(hook.context(), fib.cast(), size_of::<FibLookup>() as i32, 0) };
    let forward = match found {
        FOUND => Forward::Redirect,
        NO_NEIGHBOUR => Forward::Neighbour,
        _ => return false,
    };
    // SAFETY: both are this CPU's scratch.
    let (fib, entry) = unsafe { (&*fib, &mut *entry) };
    let [s0, s1, s2, d0, d1, d2] = fib.macs;
    let word = |a: u16, b: u16| a as u32 | (b as u32) << 16;
    entry.ifindex = fib.ifindex;
    entry.macs = [word(d0, d1), word(d2, s0), word(s1, s2)];
    entry.kind = entry.kind & !FORWARD_MASK | (forward as u8) << FORWARD_SHIFT;
    true
}
