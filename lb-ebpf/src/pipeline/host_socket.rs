//! Sockets of the host that come before a service. A nodePort number may be the local port of a connection that a process of the host has
//! open (S19), and a process may listen at a ClusterIP that is an address of the node (S45): such packets are not ours.

use crate::family::Family;
use crate::hook::Hook;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use core::mem::MaybeUninit;
use lb_common::protocol::TCP;

/// The hook's own network namespace.
const CURRENT_NETNS: u64 = u64::MAX;
/// BPF_TCP_LISTEN
const LISTEN: u32 = 10;

/// Whether a connected socket of the host owns the tuple. A listener does not: the service shadows it (S31).
#[inline(always)]
pub fn owns<F: Family, H: Hook>(hook: &H, pair: F::Pair, ports: u32, proto: u8) -> bool {
    let tuple = Tuple::new::<F>(pair, ports);
    // SAFETY: sockets that helpers have found. A connection in TIME_WAIT owns its tuple, too: not only whole sockets are asked for.
    unsafe {
        if proto == TCP {
            let sock = bpf_skc_lookup_tcp(hook.context(), tuple.pointer(), tuple.len, CURRENT_NETNS, 0);
            told(sock, |sock| (*sock).state != LISTEN)
        } else {
            let sock = bpf_sk_lookup_udp(hook.context(), tuple.pointer(), tuple.len, CURRENT_NETNS, 0);
            told(sock, |sock| (*sock).dst_port != 0)
        }
    }
}

/// Whether the socket of the host that the packet would go to is bound to its very destination, not to every address.
#[inline(always)]
pub fn is_at<F: Family, H: Hook>(hook: &H, pair: F::Pair, ports: u32, proto: u8) -> bool {
    let tuple = Tuple::new::<F>(pair, ports);
    let own = F::in_sixteen(F::second(pair));
    // SAFETY: a socket that a helper has found. Both helpers give the same kind of pointer: the verifier takes no load from two.
    unsafe {
        let sock = if proto == TCP {
            bpf_sk_lookup_tcp(hook.context(), tuple.pointer(), tuple.len, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_udp(hook.context(), tuple.pointer(), tuple.len, CURRENT_NETNS, 0)
        };
        told(sock, |sock| F::in_sixteen(F::local_address(sock)) == own)
    }
}

/// `struct bpf_sock_tuple`: addresses, then ports. What the length leaves out is never read.
struct Tuple {
    words: MaybeUninit<[u64; 5]>,
    len: u32,
}

impl Tuple {
    #[inline(always)]
    fn new<F: Family>(pair: F::Pair, ports: u32) -> Self {
        let mut words = MaybeUninit::<[u64; 5]>::uninit();
        let len = if F::HEADER == 20 { 12 } else { 36 };
        // SAFETY: forty bytes hold either form.
        unsafe {
            F::store(words.as_mut_ptr().cast(), pair);
            words
                .as_mut_ptr()
                .cast::<u8>()
                .add(len - 4)
                .cast::<u32>()
                .write_unaligned(ports);
        }
        Self {
            words,
            len: len as u32,
        }
    }

    #[inline(always)]
    fn pointer(&self) -> *mut bpf_sock_tuple {
        self.words.as_ptr().cast_mut().cast()
    }
}

/// What `tell` says of a socket, which is released; false where there is none.
///
/// # Safety
/// `sock` is what a look-up has returned.
#[inline(always)]
unsafe fn told(sock: *mut bpf_sock, tell: impl Fn(*const bpf_sock) -> bool) -> bool {
    if sock.is_null() {
        return false;
    }
    let told = tell(sock);
    // SAFETY: the caller's promise.
    unsafe { bpf_sk_release(sock.cast()) };
    told
}
