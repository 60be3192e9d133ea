//! Stage 4: does a new connection go to a frontend, and to which service record?

use super::{OnStack, host_socket};
use crate::family::Family;
use crate::hook::Hook;
use crate::maps::{FRONTENDS, NODE_ADDRS, SERVICES};
use core::mem::MaybeUninit;
use lb_common::addr::Addr;
use lb_common::frontend::FrontendKey;
use lb_common::node_addr::NODE_PORTS;
use lb_common::port::Port;
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, flags};

/// Looks at a value whose tag is wrong, before giving up.
const ATTEMPTS: usize = 4;

/// The record of the frontend the packet is addressed to.
#[inline(always)]
pub fn find<F: Family, H: Hook>(
    hook: &H,
    pair: F::Pair,
    ports: u32,
    proto: u8,
) -> Result<*const ServiceRecord, Reason> {
    let dst: Addr = F::second(pair).into();
    let port = Port((ports >> 16) as u16);
    if let Some(record) = record_of(dst, port, proto)? {
        // SAFETY: a pointer into a map value that is not changed while a frontend names it.
        let cluster_ip = unsafe { (*record).flags } & flags::CLUSTER_IP != 0;
        return if cluster_ip && is_of_this_node(dst) && host_socket::is_at::<F, H>(hook, pair, ports, proto) {
            Err(Reason::HostListener)
        } else {
            Ok(record)
        };
    }
    let address = OnStack(dst);
    // SAFETY: the value is read once, as a word.
    if let Some(flags) = unsafe { NODE_ADDRS.get(address.0) }
        && *flags & NODE_PORTS != 0
    {
        let any = if F::HEADER == 20 { Addr::ANY4 } else { Addr::ANY6 };
        let Some(record) = record_of(any, port, proto)? else {
            return Err(Reason::NotOurs);
        };
        return if host_socket::owns::<F, H>(hook, pair, ports, proto) {
            Err(Reason::HostSocket)
        } else {
            Ok(record)
        };
    }
    record_of(dst, Port::NONE, 0)?.ok_or(Reason::NotOurs)
}

/// Whether it is an address of this node.
#[inline(always)]
pub fn is_of_this_node(addr: Addr) -> bool {
    let address = OnStack(addr);
    NODE_ADDRS.get_ptr(address.0).is_some()
}

#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, the key would be copied once more on the stack"
)]
fn record_of(addr: Addr, port: Port, proto: u8) -> Result<Option<*const ServiceRecord>, Reason> {
    let mut key = MaybeUninit::<OnStack<FrontendKey>>::uninit();
    let [a, b, c, d] = addr.0;
    // Word by word: of sixteen zeros, the nodePort key of IPv6, LLVM would make a call.
    // SAFETY: twenty bytes, all of them written.
    let key = unsafe {
        let words = key.as_mut_ptr().cast::<u32>();
        words.write_volatile(a);
        words.add(1).write_volatile(b);
        words.add(2).write_volatile(c);
        words.add(3).write_volatile(d);
        words
            .add(4)
            .write_volatile(u32::from(port.0) | u32::from(proto) << 16);
        &*key.as_ptr()
    };
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let Some(value) = FRONTENDS.get_ptr(&key.0) else {
            return Ok(None);
        };
        // A kernel hash element may be given to another key while it is being read: the tag tells.
        // SAFETY: a pointer into a map value, one aligned word.
        let value = unsafe { value.read_volatile() };
        if let Some(index) = value.index_for(&key.0) {
            return Ok(SERVICES.get_ptr(index));
        }
        attempt += 1;
    }
    Err(Reason::Busy)
}
