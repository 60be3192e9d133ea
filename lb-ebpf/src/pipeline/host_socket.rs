//! A nodePort number may be the local port of a connection that a process of the host has open (S19): its packets are not ours.

use crate::family::Family;
use crate::hook::Hook;
use aya_ebpf::bindings::bpf_sock_tuple;
use aya_ebpf::helpers::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use core::mem::MaybeUninit;
use lb_common::protocol::TCP;

/// The hook's own network namespace.
const CURRENT_NETNS: u64 = u64::MAX;
/// BPF_TCP_LISTEN
const LISTEN: u32 = 10;

/// Whether a connected socket of the host owns the tuple. A listener does not: the service shadows it (S31).
#[inline(always)]
pub fn owns<F: Family, H: Hook>(hook: &H, pair: F::Pair, ports: u32, proto: u8) -> bool {
    // `struct bpf_sock_tuple`: addresses, then ports. What the length leaves out is never read.
    let mut tuple = MaybeUninit::<[u64; 5]>::uninit();
    let len = if F::HEADER == 20 { 12 } else { 36 };
    // SAFETY: forty bytes hold either form.
    unsafe {
        F::store(tuple.as_mut_ptr().cast(), pair);
        tuple
            .as_mut_ptr()
            .cast::<u8>()
            .add(len - 4)
            .cast::<u32>()
            .write_unaligned(ports);
    }
    let tuple: *mut bpf_sock_tuple = tuple.as_mut_ptr().cast();
    // SAFETY: the tuple is on the stack; a socket that is found is released on every path.
    unsafe {
        if proto == TCP {
            let sock = bpf_skc_lookup_tcp(hook.context(), tuple, len as u32, CURRENT_NETNS, 0);
            if sock.is_null() {
                return false;
            }
            let connected = (*sock).state != LISTEN;
            bpf_sk_release(sock.cast());
            connected
        } else {
            let sock = bpf_sk_lookup_udp(hook.context(), tuple, len as u32, CURRENT_NETNS, 0);
            if sock.is_null() {
                return false;
            }
            let connected = (*sock).dst_port != 0;
            bpf_sk_release(sock.cast());
            connected
        }
    }
}
