//! A connection's first packet: frontend, policy, backend, and the two entries that carry every packet after it.

use super::backend::{self, Choice};
use super::flow::{self, Lookup};
use super::forward::forward;
use super::parse::{Packet, parse};
use super::scratch::{Part, clear_macs};
use super::table::{self, Inserted};
use super::{frontend, host_socket, nexthop, reject_later, sources};
use crate::family::Family;
use crate::globals;
use crate::hook::{Hook, Verdict};
use crate::maps::DEVICES;
use crate::stats;
use crate::trace;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_jiffies64};
use lb_common::addr::Address;
use lb_common::backend::LOCAL;
use lb_common::checksum::{fold, negate};
use lb_common::device;
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
        Err(reason) => return Verdict::Pass(reason),
    };
    let inside = hook.place().is_inside();
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

    match establish::<F, H>(hook, &packet, record, &choice, inside, now) {
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

/// Makes both entries. The reply's comes first: it is the claim on its tuple.
#[inline(always)]
fn establish<F: Family, H: Hook>(
    hook: &H,
    packet: &Packet<F>,
    record: *const ServiceRecord,
    choice: &Choice,
    inside: bool,
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
        (
            F::Addr::from_addr((*backend).addr),
            (*backend).port,
            (*backend).flags & LOCAL != 0,
            (*record).flags,
        )
    };
    let asked =
        bits & if inside {
            flags::REWRITE_POD
        } else {
            flags::REWRITE_OUTSIDE
        } != 0;
    // A remote backend would answer an outside client past us; a client that is its own backend would answer itself (S18). The
    // node as backend gets the client's address whatever is asked: its stack takes no packet from an address of its own, and the
    // reply passes one of our devices anyway.
    let rewrite_source =
        (asked || client == address || (!inside && !local)) && !frontend::is_of_this_node(address.into());

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
    if rewrite_source {
        if !nexthop::resolve::<F, H>(hook, fib, entry, address, hook.ifindex()) {
            return Err(Reason::NoRoute);
        }
        let out = entry.ifindex;
        let (source, class) = source_and_class::<F>(out, hook.ifindex())?;
        entry.new_src = source;
        // The way back is looked up by the first reply: a flood of unanswered packets shall not pay for it.
        reply.kind = kind(class, Forward::Neighbour, true);
    }
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

/// The address to send from by device `out`, and where replies to it will be seen.
#[inline(always)]
fn source_and_class<F: Family>(out: u32, from: u32) -> Result<(F::Addr, HookClass), Reason> {
    let Some(device) = DEVICES.get(out) else {
        return Err(Reason::NoRoute);
    };
    // Whatever is no uplink leads to pods, be it through a bridge: their answers come in by their own devices.
    let class = if device.kind() == device::UPLINK {
        HookClass::UplinkIngress
    } else {
        HookClass::PodIngress
    };
    if let Some(source) = F::source_of(device) {
        return Ok((source, class));
    }
    // A device without an address of its own sends from that of the device the packet came in by.
    match DEVICES.get(from).and_then(F::source_of) {
        Some(source) => Ok((source, class)),
        None => Err(Reason::NoRoute),
    }
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
        if rewrite_source
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
