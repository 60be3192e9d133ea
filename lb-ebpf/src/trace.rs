//! The development trace of a packet's walk, through aya-log. Off unless the loader raises `AYA_LOG_LEVEL`: the level is a constant
//! to the verifier, which removes the calls. Subprograms, so that formatting takes none of the stages' stacks. The hot program
//! has no trace of its own: with the trace on, the loader lets it hand every packet to the full stage (`FRESH_FOR` = 0).

use crate::family::Family;
use crate::hook::{Hook, Verdict};
use crate::pipeline::Packet;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use aya_log_ebpf::{debug, info};
use lb_common::addr::Addr;

/// What the headers say.
#[inline(always)]
pub fn parsed<F: Family, H: Hook>(hook: &H, packet: &Packet<F>) {
    if level_enabled(Level::Debug) {
        trace_parsed::<F, H>(hook.ebpf(), packet);
    }
}

#[inline(never)]
fn trace_parsed<F: Family, H: Hook>(context: &H::Context, packet: &Packet<F>) {
    let pair = packet.pair();
    let (src, dst): (Addr, Addr) = (F::first(pair).into(), F::second(pair).into());
    let ports = packet.ports();
    debug!(
        context,
        "packet {:i} port {} to {:i} port {} protocol {} flags {:x}",
        octets(src),
        u16::from_be(ports as u16),
        octets(dst),
        u16::from_be((ports >> 16) as u16),
        packet.proto(),
        packet.tcp_flags()
    );
}

/// A flow that stands in the table.
#[inline(always)]
pub fn flow<H: Hook>(hook: &H, backend: u32, kind: u8, idle: u32) {
    if level_enabled(Level::Debug) {
        trace_flow::<H>(hook.ebpf(), backend, kind, idle);
    }
}

#[inline(never)]
fn trace_flow<H: Hook>(context: &H::Context, backend: u32, kind: u8, idle: u32) {
    debug!(
        context,
        "flow: backend {} kind {:x} idle {} jiffies", backend, kind, idle
    );
}

/// A choice for a new flow.
#[inline(always)]
pub fn chosen<H: Hook>(hook: &H, service: u32, backend: u32) {
    if level_enabled(Level::Info) {
        trace_chosen::<H>(hook.ebpf(), service, backend);
    }
}

#[inline(never)]
fn trace_chosen<H: Hook>(context: &H::Context, service: u32, backend: u32) {
    info!(context, "new flow: service {} backend {}", service, backend);
}

/// How a stage ends, by the number of its reason.
#[inline(always)]
pub fn verdict<H: Hook>(hook: &H, verdict: Verdict) -> Verdict {
    if level_enabled(Level::Debug) {
        trace_verdict::<H>(hook.ebpf(), verdict.reason() as u8);
    }
    verdict
}

#[inline(never)]
fn trace_verdict<H: Hook>(context: &H::Context, reason: u8) {
    debug!(context, "verdict: reason {}", reason);
}

fn octets(addr: Addr) -> [u8; 16] {
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute(addr.0) }
}
