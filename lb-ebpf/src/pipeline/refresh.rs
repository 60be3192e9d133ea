//! Once a second and flow: the stamp, the other half, the next hop.

use super::flow::{Hit, Lookup, look_up, swap_pair, swap_ports};
use super::nexthop;
use super::parse::Packet;
use super::scratch::{Part, clear_macs};
use super::table::{self, Inserted};
use crate::family::Family;
use crate::hook::Hook;
use lb_common::checksum::negate;
use lb_common::flow::{FORWARD_MASK, FORWARD_SHIFT, FlowEntry, Forward, forward_of};
use lb_common::lifetime::seen;
use lb_common::port::Port;

/// log2 of the jiffies after which a flow with a known neighbour sends one packet through the kernel's neighbour table. A
/// neighbour that is only looked up goes stale and stays so for ever, dead or alive: it takes a packet to find out.
const RESOLVE_SHIFT: u32 = 10;

/// Whether a flow last seen at `last` owes the neighbour table a packet.
#[inline(always)]
pub fn owes_resolution(last: u32, now: u32) -> bool {
    last >> RESOLVE_SHIFT != now >> RESOLVE_SHIFT
}

/// The flow's state after a refresh.
pub enum Refreshed {
    /// It is good; its next hop is as it stands now in the hit.
    Good,
    /// The other half's place belongs to somebody else: the flow is over.
    Lost,
    /// A bucket stayed locked.
    Busy,
}

/// Refreshes the flow of a packet.
#[inline(always)]
pub fn refresh<F: Family, H: Hook>(hook: &H, packet: &Packet<F>, hit: &mut Hit<F>, now: u32) -> Refreshed {
    let scratch = packet.scratch();
    let (other_pair, other_ports) = (swap_pair::<F>(hit.new_pair), swap_ports(hit.new_ports));
    match look_up::<F>(other_pair, other_ports, packet.proto()) {
        Lookup::Hit(mut other)
            if F::same(other.new_pair, swap_pair::<F>(packet.pair()))
                && other.new_ports == swap_ports(packet.ports()) =>
        {
            other.touch(now);
            if other.peer != hit.own {
                other.set_peer(hit.own);
            }
            if hit.peer != other.own {
                hit.set_peer(other.own);
            }
        }
        Lookup::Hit(_) => return Refreshed::Lost,
        Lookup::Busy => return Refreshed::Busy,
        Lookup::Miss => {
            // SAFETY: this CPU's scratch.
            let reply = unsafe { &mut (*scratch).reply };
            build_mirror::<F>(reply, packet, hit, now, hook.ifindex());
            match table::insert::<F>(Part::Reply, now) {
                Inserted::Done | Inserted::Evicted => {}
                Inserted::Taken => return Refreshed::Lost,
                Inserted::Busy => return Refreshed::Busy,
            }
        }
    }
    hit.touch(now);
    if matches!(hit.forward(), Forward::Redirect | Forward::Neighbour)
        && hook.place().class() as u8 == hit.class() as u8
    {
        next_hop::<F, H>(hook, packet, hit);
    }
    Refreshed::Good
}

/// Looks the next hop up again and stores it where it has changed.
#[inline(always)]
fn next_hop<F: Family, H: Hook>(hook: &H, packet: &Packet<F>, hit: &mut Hit<F>) {
    let scratch = packet.scratch();
    // SAFETY: this CPU's scratch.
    let (entry, fib) = unsafe { (&mut (*scratch).forward, &raw mut (*scratch).fib) };
    name::<F>(entry, packet, hit);
    entry.kind = hit.kind;
    clear_macs(entry);
    // Without a route for now the flow keeps the way it had.
    if !nexthop::resolve::<F, H>(hook, fib, entry, F::second(hit.new_pair)) {
        return;
    }
    let [a, b, c] = entry.macs;
    let macs = a as u64 | (b as u64) << 32;
    if entry.kind != hit.kind || entry.ifindex != hit.ifindex || macs != hit.macs || c != hit.macs_rest {
        table::set_next_hop::<F>(Part::Forward);
        hit.kind = entry.kind;
        hit.ifindex = entry.ifindex;
        hit.macs = macs;
        hit.macs_rest = c;
    }
}

/// Takes this half of a flow back.
#[inline(always)]
pub fn forget<F: Family>(packet: &Packet<F>, hit: &Hit<F>) {
    let scratch = packet.scratch();
    // SAFETY: this CPU's scratch.
    name::<F>(unsafe { &mut (*scratch).forward }, packet, hit);
    table::remove::<F>(Part::Forward);
}

/// Key and rewrite of this half: what finds its entry in the table.
#[inline(always)]
fn name<F: Family>(entry: &mut FlowEntry<F::Addr>, packet: &Packet<F>, hit: &Hit<F>) {
    let (pair, ports) = (packet.pair(), packet.ports());
    entry.src = F::first(pair);
    entry.dst = F::second(pair);
    (entry.sport, entry.dport) = (Port(ports as u16), Port((ports >> 16) as u16));
    entry.proto = packet.proto();
    entry.new_src = F::first(hit.new_pair);
    entry.new_dst = F::second(hit.new_pair);
    (entry.new_sport, entry.new_dport) = (Port(hit.new_ports as u16), Port((hit.new_ports >> 16) as u16));
}

/// The other half of a flow, from what this half knows.
#[inline(always)]
fn build_mirror<F: Family>(
    entry: &mut FlowEntry<F::Addr>,
    packet: &Packet<F>,
    hit: &Hit<F>,
    now: u32,
    ifindex: u32,
) {
    let pair = packet.pair();
    entry.src = F::second(hit.new_pair);
    entry.dst = F::first(hit.new_pair);
    let swapped = swap_ports(hit.new_ports);
    (entry.sport, entry.dport) = (Port(swapped as u16), Port((swapped >> 16) as u16));
    entry.proto = packet.proto();
    // What the other half had shown, as far as this half knows; anything, if it knows nothing.
    entry.own = hit.peer | seen::OPEN;
    entry.peer = hit.own;
    entry.mirror = hit.kind;
    entry.seq = 0;
    entry.last = now;
    entry.new_src = F::second(pair);
    entry.new_dst = F::first(pair);
    let swapped = swap_ports(packet.ports());
    (entry.new_sport, entry.new_dport) = (Port(swapped as u16), Port((swapped >> 16) as u16));
    entry.delta_addr = negate(hit.delta_addr);
    entry.delta_port = negate(hit.delta_port);
    clear_macs(entry);
    entry.ifindex = ifindex;
    entry.backend = hit.backend;
    entry.generation = hit.generation;
    // Its next hop is not known here: the kernel resolves it, until the entry's own refresh.
    let forward = match forward_of(hit.mirror) {
        Forward::Stack => Forward::Stack,
        Forward::Redirect | Forward::Neighbour => Forward::Neighbour,
        Forward::Receive => {
            nexthop::receive_by::<F>(entry, ifindex);
            Forward::Receive
        }
    };
    entry.kind = hit.mirror & !FORWARD_MASK | (forward as u8) << FORWARD_SHIFT;
    entry.flags = 0;
}
