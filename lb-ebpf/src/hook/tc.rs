//! tc: a packet with its socket buffer. Its checksum may be unfinished (CHECKSUM_PARTIAL), its tail may lie in fragments, and it
//! may stand for many segments.

use super::{Hook, Place, Verdict};
use crate::maps::TC_STAGES;
use crate::packet;
use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::helpers::{
    bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_tail,
    bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use core::mem::offset_of;
use lb_common::layout::Stage;
use lb_common::reason::Reason;

/// Insert between the Ethernet and the network header (`enum bpf_adj_room_mode`).
const BPF_ADJ_ROOM_MAC: u32 = 1;
/// A packet for this host (include/uapi/linux/if_packet.h).
const PACKET_HOST: u32 = 0;
/// TC_ACT_REDIRECT.
const REDIRECTED: i64 = 7;

/// A packet at a device's tc hook.
pub struct Tc {
    context: TcContext,
    place: Place,
}

impl Tc {
    /// At an entry point: the place is told, and left where later stages find it.
    #[inline(always)]
    pub fn enter(context: TcContext, place: Place) -> Self {
        // SAFETY: `cb` is the program's to write.
        unsafe { (*context.skb.skb).cb[0] = place as u32 };
        Self { context, place }
    }

    /// In a later stage.
    #[inline(always)]
    pub fn resume(context: TcContext) -> Self {
        // SAFETY: `cb` is the program's to read.
        let place = match unsafe { (*context.skb.skb).cb[0] } {
            0 => Place::UplinkIngress,
            1 => Place::PodIngress,
            2 => Place::UplinkEgress,
            3 => Place::PodEgress,
            _ => Place::LoopbackEgress,
        };
        Self { context, place }
    }
}

impl Hook for Tc {
    const IS_XDP: bool = false;

    type Context = TcContext;

    #[inline(always)]
    fn ebpf(&self) -> &TcContext {
        &self.context
    }

    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is the program's own.
        unsafe { packet::pointer::<{ offset_of!(__sk_buff, data) }>(self.context()) }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: the context is the program's own.
        unsafe { packet::pointer::<{ offset_of!(__sk_buff, data_end) }>(self.context()) }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { packet::word::<{ offset_of!(__sk_buff, ifindex) }>(self.context()) }
    }

    #[inline(always)]
    fn place(&self) -> Place {
        self.place
    }

    #[inline(always)]
    fn is_from_host(&self) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { packet::word::<{ offset_of!(__sk_buff, ingress_ifindex) }>(self.context()) == 0 }
    }

    #[inline(always)]
    fn context(&self) -> *mut core::ffi::c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn is_for_us(&self, _first: u64) -> bool {
        // A pod behind a bridge addresses the bridge, not this device; at egress the address is the next hop's.
        // SAFETY: the context is the program's own.
        !matches!(self.place, Place::UplinkIngress)
            || unsafe { (*self.context.skb.skb).pkt_type } == PACKET_HOST
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { (*self.context.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn pull(&self, len: u32) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_pull_data(self.context.skb.skb, len) == 0 }
    }

    #[inline(always)]
    fn tail_call(&self, stage: Stage) {
        // SAFETY: the stages are tc programs that hold nothing across the call.
        unsafe { TC_STAGES.tail_call(&self.context, stage as u32) }
    }

    #[inline(always)]
    fn redirect(&self, ifindex: u32) -> Option<Verdict> {
        // SAFETY: plain helper call.
        if unsafe { bpf_redirect(ifindex, 0) } as i64 == REDIRECTED {
            Some(Verdict::Redirect(Reason::Sent))
        } else {
            None
        }
    }

    #[inline(always)]
    fn redirect_neighbour(&self, ifindex: u32) -> Option<Verdict> {
        // SAFETY: plain helper call; without parameters the kernel looks the next hop up by the packet's destination.
        if unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) } as i64 == REDIRECTED {
            Some(Verdict::Redirect(Reason::SentNeighbour))
        } else {
            None
        }
    }

    #[inline(always)]
    fn receive(&self, ifindex: u32) -> Option<Verdict> {
        // SAFETY: plain helper call.
        if unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) } as i64 == REDIRECTED {
            Some(Verdict::Redirect(Reason::ToStack))
        } else {
            None
        }
    }

    #[inline(always)]
    fn reflect(&self, reason: Reason) -> Verdict {
        let sent = if self.place.is_ingress() {
            self.redirect(self.ifindex())
        } else {
            self.receive(self.ifindex())
        };
        match sent {
            Some(_) => Verdict::Answered(reason),
            None => Verdict::Drop(Reason::RewriteFailed),
        }
    }

    #[inline(always)]
    fn update_checksum(&self, at: usize, delta_addr: u16, delta_port: u16, udp: bool) -> bool {
        // Two calls: an unfinished checksum covers the pseudo header alone, so the addresses' delta belongs in it and the
        // ports' does not. The helper knows which kind it is, if told which delta is which.
        let udp = if udp { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        let skb = self.context.skb.skb;
        // SAFETY: the context is the program's own.
        unsafe {
            bpf_l4_csum_replace(
                skb,
                at as u32,
                0,
                delta_addr as u64,
                udp | BPF_F_PSEUDO_HDR as u64,
            ) == 0
                && bpf_l4_csum_replace(skb, at as u32, 0, delta_port as u64, udp) == 0
        }
    }

    #[inline(always)]
    fn store_network6(&self, at: usize, head: u32, pair: [u64; 4]) -> bool {
        // IPv6 has no header checksum that would cancel the changes in a CHECKSUM_COMPLETE sum, and the pseudo header call above takes
        // the addresses out of it: so all of them must be put in here. The head stands in the upper half of the first word,
        // right before the addresses, and all stores are whole words.
        let [a, b, c, d] = pair;
        let words = [(head as u64) << 32, a, b, c, d];
        // SAFETY: the context is the program's own; 36 bytes follow the lower half of the first of five words.
        unsafe {
            let from = (&raw const words).cast::<u8>().add(4);
            bpf_skb_store_bytes(
                self.context.skb.skb,
                at as u32,
                from.cast(),
                36,
                BPF_F_RECOMPUTE_CSUM as u64,
            ) == 0
        }
    }

    #[inline(always)]
    fn set_len(&self, len: u32) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_change_tail(self.context.skb.skb, len, 0) == 0 }
    }

    #[inline(always)]
    fn make_room(&self, len: i32) -> bool {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_adjust_room(self.context.skb.skb, len, BPF_ADJ_ROOM_MAC, 0) == 0 }
    }
}
