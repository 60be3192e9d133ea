//! xvip's kernel programs: the entry points, and nothing else. Each is one call and one match.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![expect(
    clippy::cast_possible_truncation,
    reason = "packet fields and helper results are taken apart by width throughout"
)]
#![expect(
    unreachable_pub,
    reason = "nobody imports a program: `pub` says what a module offers to the others"
)]

mod atomic;
mod family;
mod globals;
mod hook;
mod maps;
mod packet;
mod pipeline;
mod stats;
mod trace;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use family::{V4, V6};
use hook::tc::Tc;
use hook::xdp::Xdp;
use hook::{Place, Verdict};

/// TC_ACT_UNSPEC, TCX_NEXT: on to the next program.
const TC_NEXT: i32 = -1;
/// TC_ACT_SHOT
const TC_DROP: i32 = 2;
/// TC_ACT_REDIRECT
const TC_REDIRECT: i32 = 7;

#[inline(always)]
fn xdp_action(verdict: Verdict) -> u32 {
    verdict.count();
    match verdict {
        Verdict::Pass(_) | Verdict::Stack(_) => XDP_PASS,
        Verdict::Drop(_) => XDP_DROP,
        Verdict::Transmit(_) | Verdict::Answered(_) => XDP_TX,
        Verdict::Redirect(_) => XDP_REDIRECT,
    }
}

#[inline(always)]
fn tc_action(verdict: Verdict) -> i32 {
    verdict.count();
    match verdict {
        Verdict::Pass(_) | Verdict::Stack(_) => TC_NEXT,
        Verdict::Drop(_) => TC_DROP,
        Verdict::Transmit(_) | Verdict::Answered(_) | Verdict::Redirect(_) => TC_REDIRECT,
    }
}

/// XDP of an uplink.
#[xdp]
#[inline(always)]
fn xdp_uplink(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::fast(&Xdp(ctx)))
}

/// Stage of XDP.
#[xdp]
#[inline(always)]
fn xdp_full4(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::full::<V4, _>(&Xdp(ctx)))
}

/// Stage of XDP.
#[xdp]
#[inline(always)]
fn xdp_full6(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::full::<V6, _>(&Xdp(ctx)))
}

/// Stage of XDP.
#[xdp]
#[inline(always)]
fn xdp_new4(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::begin::<V4, _>(&Xdp(ctx)))
}

/// Stage of XDP.
#[xdp]
#[inline(always)]
fn xdp_new6(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::begin::<V6, _>(&Xdp(ctx)))
}

/// Stage of XDP.
#[xdp]
#[inline(always)]
fn xdp_reject4(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::reject::<V4, _>(&Xdp(ctx)))
}

/// Stage of XDP.
#[xdp]
#[inline(always)]
fn xdp_reject6(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::reject::<V6, _>(&Xdp(ctx)))
}

/// tc ingress of an uplink.
#[classifier]
#[inline(always)]
fn tc_uplink_in(ctx: TcContext) -> i32 {
    tc_action(pipeline::fast(&Tc::enter(ctx, Place::UplinkIngress)))
}

/// tc egress of an uplink.
#[classifier]
#[inline(always)]
fn tc_uplink_out(ctx: TcContext) -> i32 {
    tc_action(pipeline::fast(&Tc::enter(ctx, Place::UplinkEgress)))
}

/// tc ingress of a pod device.
#[classifier]
#[inline(always)]
fn tc_pod_in(ctx: TcContext) -> i32 {
    tc_action(pipeline::fast(&Tc::enter(ctx, Place::PodIngress)))
}

/// tc egress of a pod device.
#[classifier]
#[inline(always)]
fn tc_pod_out(ctx: TcContext) -> i32 {
    tc_action(pipeline::fast(&Tc::enter(ctx, Place::PodEgress)))
}

/// tc egress of the loopback device.
#[classifier]
#[inline(always)]
fn tc_loopback_out(ctx: TcContext) -> i32 {
    tc_action(pipeline::fast(&Tc::enter(ctx, Place::LoopbackEgress)))
}

/// Stage of tc.
#[classifier]
#[inline(always)]
fn tc_full4(ctx: TcContext) -> i32 {
    tc_action(pipeline::full::<V4, _>(&Tc::resume(ctx)))
}

/// Stage of tc.
#[classifier]
#[inline(always)]
fn tc_full6(ctx: TcContext) -> i32 {
    tc_action(pipeline::full::<V6, _>(&Tc::resume(ctx)))
}

/// Stage of tc.
#[classifier]
#[inline(always)]
fn tc_new4(ctx: TcContext) -> i32 {
    tc_action(pipeline::begin::<V4, _>(&Tc::resume(ctx)))
}

/// Stage of tc.
#[classifier]
#[inline(always)]
fn tc_new6(ctx: TcContext) -> i32 {
    tc_action(pipeline::begin::<V6, _>(&Tc::resume(ctx)))
}

/// Stage of tc.
#[classifier]
#[inline(always)]
fn tc_reject4(ctx: TcContext) -> i32 {
    tc_action(pipeline::reject::<V4, _>(&Tc::resume(ctx)))
}

/// Stage of tc.
#[classifier]
#[inline(always)]
fn tc_reject6(ctx: TcContext) -> i32 {
    tc_action(pipeline::reject::<V6, _>(&Tc::resume(ctx)))
}

/// Lets every frame pass: what a veth's far end needs to take XDP frames, and the empty program of benchmarks.
#[xdp]
#[inline(always)]
fn xdp_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Stores jiffies in `settings`. Run at load to measure their rate, never attached.
#[xdp]
#[inline(always)]
fn read_jiffies(_ctx: XdpContext) -> u32 {
    if let Some(settings) = maps::SETTINGS.get_ptr_mut(0) {
        // SAFETY: a pointer into the map's value; one aligned word. The helper has no preconditions.
        unsafe { (&raw mut (*settings).jiffies).write_volatile(bpf_jiffies64()) };
    }
    XDP_PASS
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The build fails if this is in the object: nothing may panic.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
