//! A connection's first packet: frontend, policy, backend, and the two entries that carry every packet after it.

use super::backend::{self, Choice};
use super::fast::is_mid_flow;
use super::flow::{self, Lookup};
use super::forward::forward;
use super::nexthop::FibLookup;
use super::parse::{Packet, parse};
use super::scratch::{Part, clear_macs};
use super::table::{self, Inserted};
use super::{frontend, host_socket, nexthop, reject_later, sources};
use crate::family::Family;
use crate::globals;
use crate::hook::{Hook, Place, Verdict};
use crate::maps::DEVICES;
use crate::stats;
use crate::trace;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_jiffies64};
use lb_common::addr::{Addr, Address};
use lb_common::backend::LOCAL;
use lb_common::checksum::{fold, negate};
use lb_common::device::{self, LOOPBACK_IFINDEX};
use lb_common::flow::{FlowEntry, Forward, HookClass, kind};
use lb_common::lifetime::seen;
use lb_common::port::Port;
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, flags};

/// Source ports that are tried for one connection.
const PORT_ATTEMPTS: usize = 16;

/// Begins a flow, if the packet goes to a frontend. The stage before has seen that it may begin one.
#[inline(always)]
pub fn begin<F: Family, H: Hook>(hook: &H) -> Verdict {
    trace::verdict(hook, walk::<F, H>(hook))
}

#[inline(always)]
fn walk<F: Family, H: Hook>(hook: &H) -> Verdict {
    let packet = match parse::<F, H>(hook) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Pass(reason),
    };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_jiffies64() } as u32;
    let record = match frontend::find::<F, H>(hook, packet.pair(), packet.ports(), packet.proto()) {
        Ok(record) => record,
        Err(Reason::Busy) => return Verdict::Drop(Reason::Busy),
        Err(reason) => return no_frontend::<F, H>(hook, &packet, reason),
    };
    if hook.place().is_of_host() {
        // Whoever finishes what began before us has had it by now (S44).
        if is_mid_flow(packet.proto(), packet.tcp_flags()) {
            return reject_later::<F, H>(hook);
        }
        // What is only forwarded had its chance where it came in.
        if !hook.is_from_host() {
            return Verdict::Pass(Reason::NotOurs);
        }
    }
    // Pods of other nodes are known by their addresses alone.
    let inside = hook.place().is_inside() || F::is_pod_address(F::first(packet.pair()));
    // SAFETY: a pointer into a map value that is not changed while a frontend names it.
    let (service, bits, sources, affinity, side) = unsafe {
        (
            (*record).service,
            (*record).flags,
            (*record).sources,
            (*record).affinity_seconds,
            backend::side(record, inside),
        )
    };
    if bits & flags::UNKNOWN_PORT != 0 {
        return reject_later::<F, H>(hook);
    }
    let client = F::first(packet.pair());
    if !sources::admit(sources, client.into()) {
        stats::refused(service);
        return Verdict::Drop(Reason::SourceRange);
    }
    if side.range.len == 0 {
        stats::refused(service);
        return match side.when_empty {
            Reason::Rejected => reject_later::<F, H>(hook),
            reason => Verdict::Drop(reason),
        };
    }

    let mut choice = None;
    if affinity != 0 {
        choice = backend::remembered(
            client.into(),
            service,
            side.list,
            affinity.wrapping_mul(globals::hz()),
            now,
        );
    }
    let Some(choice) = choice.or_else(|| backend::choose(side.range, service)) else {
        return Verdict::Drop(Reason::NoLiveBackend);
    };
    trace::chosen(hook, service, choice.index);
    if affinity != 0 {
        backend::remember(client.into(), service, &choice, now);
    }

    match establish::<F, H>(hook, &packet, record, &choice, now) {
        Ok(()) => {}
        Err(reason) => return Verdict::Drop(reason),
    }
    stats::connection(service);
    // The table's entry may have been another CPU's: what stands there counts.
    match flow::look_up::<F>(packet.pair(), packet.ports(), packet.proto()) {
        Lookup::Hit(hit) => forward(hook, &hit, packet.l4(), packet.proto(), packet.ttl(), false),
        Lookup::Miss | Lookup::Busy => Verdict::Drop(Reason::Busy),
    }
}

/// A packet to no frontend is none of ours, unless it is about to leave for an address that nobody serves (S24).
#[inline(always)]
fn no_frontend<F: Family, H: Hook>(hook: &H, packet: &Packet<F>, reason: Reason) -> Verdict {
    let nobodys = matches!(reason, Reason::NotOurs) && F::is_service_address(F::second(packet.pair()));
    if nobodys && matches!(hook.place(), Place::UplinkEgress) {
        Verdict::Drop(Reason::Unserved)
    } else {
        Verdict::Pass(reason)
    }
}

/// Makes both entries. The reply's comes first: it is the claim on its tuple.
#[inline(always)]
fn establish<F: Family, H: Hook>(
    hook: &H,
    packet: &Packet<F>,
    record: *const ServiceRecord,
    choice: &Choice,
    now: u32,
) -> Result<(), Reason> {
    let scratch = packet.scratch();
    // SAFETY: this CPU's scratch; its parts do not overlap.
    let (entry, reply, fib) = unsafe {
        (
            &mut (*scratch).forward,
            &mut (*scratch).reply,
            &raw mut (*scratch).fib,
        )
    };
    let client = F::first(packet.pair());
    // SAFETY: pointers into map values; a backend's address, port and locality do not change while it is alive.
    let (address, port, local, bits) = unsafe {
        let backend = choice.backend;
        // Word by word: for sixteen bytes at once LLVM makes a call.
        let words = (&raw const (*backend).addr).cast::<u32>();
        let addr = Addr([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]);
        (
            F::Addr::from_addr(addr),
            (*backend).port,
            (*backend).flags & LOCAL != 0,
            (*record).flags,
        )
    };
    entry.src = client;
    entry.dst = F::second(packet.pair());
    (entry.sport, entry.dport) = (Port(packet.ports() as u16), Port((packet.ports() >> 16) as u16));
    entry.proto = packet.proto();
    entry.own = seen::OPEN;
    entry.peer = 0;
    entry.seq = 0;
    entry.last = now;
    entry.new_src = client;
    entry.new_dst = address;
    entry.new_dport = port;
    clear_macs(entry);
    entry.ifindex = 0;
    entry.backend = choice.index;
    entry.generation = choice.generation as u16;
    entry.kind = kind(hook.place().class(), Forward::Stack, false);
    entry.flags = 0;

    reply.kind = kind(HookClass::Egress, Forward::Stack, true);
    clear_macs(reply);
    reply.ifindex = hook.ifindex();
    let rewrite_source = if hook.place().is_of_host() {
        of_host::<F, H>(hook, fib, entry, reply, bits)?
    } else {
        of_others::<F, H>(hook, fib, entry, reply, bits, local)?
    };
    entry.mirror = reply.kind;

    reply.src = address;
    reply.dst = entry.new_src;
    reply.sport = port;
    reply.proto = packet.proto();
    reply.own = 0;
    reply.peer = seen::OPEN;
    reply.mirror = entry.kind;
    reply.seq = 0;
    reply.last = now;
    reply.new_src = entry.dst;
    reply.new_dst = client;
    reply.new_sport = entry.dport;
    reply.new_dport = entry.sport;
    reply.backend = choice.index;
    reply.generation = choice.generation as u16;
    reply.flags = 0;

    let mut sum = entry.src.sum_complement(0);
    sum = entry.dst.sum_complement(sum);
    sum = entry.new_src.sum(sum);
    sum = entry.new_dst.sum(sum);
    entry.delta_addr = fold(sum);
    reply.delta_addr = negate(entry.delta_addr);

    claim::<F, H>(hook, entry, reply, rewrite_source, now)?;
    match table::insert::<F>(Part::Forward, now) {
        Inserted::Done | Inserted::Evicted => Ok(()),
        Inserted::Taken => {
            // Another CPU began the same connection meanwhile.
            table::remove::<F>(Part::Reply);
            Ok(())
        }
        Inserted::Busy => {
            table::remove::<F>(Part::Reply);
            Err(Reason::Busy)
        }
    }
}

/// The ways of a client in a pod or outside, as far as they are not through the stack. Whether its source is rewritten.
#[inline(always)]
fn of_others<F: Family, H: Hook>(
    hook: &H,
    fib: *mut FibLookup,
    entry: &mut FlowEntry<F::Addr>,
    reply: &mut FlowEntry<F::Addr>,
    bits: u32,
    local: bool,
) -> Result<bool, Reason> {
    let here = hook.place().is_inside();
    let asked =
        bits & if here || F::is_pod_address(entry.src) {
            flags::REWRITE_POD
        } else {
            flags::REWRITE_OUTSIDE
        } != 0;
    // A remote backend would answer a client elsewhere past us, be he a pod or not; a client that is its own backend would answer itself (S18). The
    // node as backend gets the client's address whatever is asked: its stack takes no packet from an address of its own, and the
    // reply passes one of our devices anyway.
    let address = entry.new_dst;
    let wanted = asked || entry.src == address || (!here && !local);
    if !wanted || frontend::is_of_this_node(address.into()) {
        return Ok(false);
    }
    if !nexthop::resolve::<F, H>(hook, fib, entry, address) {
        return Err(Reason::NoRoute);
    }
    let (source, class) = source_and_class::<F>(entry.ifindex)?;
    // A device without an address of its own sends from that of the device the packet came in by.
    match source.or_else(|| DEVICES.get(hook.ifindex()).and_then(F::source_of)) {
        Some(source) => entry.new_src = source,
        None => return Err(Reason::NoRoute),
    }
    // The way back is looked up by the first reply: a flood of unanswered packets shall not pay for it.
    reply.kind = kind(class, Forward::Neighbour, true);
    Ok(true)
}

/// The ways of a socket of the host: its packets go out by the backend's device, and answers are received by the device they left by
/// in the socket's eyes, where no reverse path filter and no conntrack wonders at them. Whether the source is rewritten: only
/// where the kernel would choose another for that way (S19).
#[inline(always)]
fn of_host<F: Family, H: Hook>(
    hook: &H,
    fib: *mut FibLookup,
    entry: &mut FlowEntry<F::Addr>,
    reply: &mut FlowEntry<F::Addr>,
    bits: u32,
) -> Result<bool, Reason> {
    if frontend::is_of_this_node(entry.new_dst.into()) {
        // Both ends are sockets of the host: it answers itself by the loopback device.
        if !matches!(hook.place(), Place::LoopbackEgress) {
            nexthop::receive_by::<F>(entry, LOOPBACK_IFINDEX);
            entry.kind = kind(HookClass::Egress, Forward::Receive, false);
        }
        return Ok(false);
    }
    if !nexthop::resolve::<F, H>(hook, fib, entry, entry.new_dst) {
        return Err(Reason::NoRoute);
    }
    let (source, class) = source_and_class::<F>(entry.ifindex)?;
    nexthop::receive_by::<F>(reply, hook.ifindex());
    reply.kind = kind(class, Forward::Receive, true);
    match source {
        Some(source) if source != entry.src && bits & flags::REWRITE_NODE != 0 => {
            entry.new_src = source;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The address that device `out` sends from, if it has one, and where replies to it will be seen.
#[inline(always)]
fn source_and_class<F: Family>(out: u32) -> Result<(Option<F::Addr>, HookClass), Reason> {
    let Some(device) = DEVICES.get(out) else {
        return Err(Reason::NoRoute);
    };
    // Whatever is no uplink leads to pods, be it through a bridge: their answers come in by their own devices.
    let class = if device.kind() == device::UPLINK {
        HookClass::UplinkIngress
    } else {
        HookClass::PodIngress
    };
    Ok((F::source_of(device), class))
}

/// Finds a source port whose reply tuple is free and claims it with the reply's entry. A kept source keeps its port, unless
/// the reply's tuple belongs to another connection.
#[inline(always)]
fn claim<F: Family, H: Hook>(
    hook: &H,
    entry: &mut FlowEntry<F::Addr>,
    reply: &mut FlowEntry<F::Addr>,
    rewrite_source: bool,
    now: u32,
) -> Result<(), Reason> {
    let (first, count) = globals::snat_ports();
    let mut attempt = 0;
    while attempt < PORT_ATTEMPTS {
        let keep = attempt == 0 && !rewrite_source;
        attempt += 1;
        // SAFETY: plain helper call.
        let random = unsafe { bpf_get_prandom_u32() };
        let port = if keep {
            entry.sport
        } else {
            Port::new(first.wrapping_add(((random as u64 * count as u64) >> 32) as u16))
        };
        reply.dport = port;
        let reply_ports = flow::ports(reply.sport, port);
        if (rewrite_source || hook.place().is_of_host())
            && host_socket::owns::<F, H>(hook, F::pair(reply.src, reply.dst), reply_ports, reply.proto)
        {
            continue;
        }
        entry.new_sport = port;
        let ports = |p: Port| p.0 as u64;
        let complement = |p: Port| !p.0 as u64;
        entry.delta_port = fold(
            complement(entry.sport)
                + complement(entry.dport)
                + ports(entry.new_sport)
                + ports(entry.new_dport),
        );
        reply.delta_port = negate(entry.delta_port);
        match table::insert::<F>(Part::Reply, now) {
            Inserted::Done | Inserted::Evicted => return Ok(()),
            Inserted::Taken => {}
            Inserted::Busy => return Err(Reason::Busy),
        }
    }
    Err(Reason::PortsExhausted)
}
