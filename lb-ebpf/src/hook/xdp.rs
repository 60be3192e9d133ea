//! XDP: a frame before the kernel knows of it.

use super::{Hook, Place, Verdict};
use crate::maps::{DEVICES, TX_DEVICES, XDP_STAGES};
use crate::packet;
use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use core::mem::offset_of;
use lb_common::checksum;
use lb_common::device;
use lb_common::layout::Stage;
use lb_common::reason::Reason;

/// A frame at an uplink.
pub struct Xdp(pub XdpContext);

impl Hook for Xdp {
    const IS_XDP: bool = true;

    type Context = XdpContext;

    #[inline(always)]
    fn ebpf(&self) -> &XdpContext {
        &self.0
    }

    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is the program's own.
        unsafe { packet::pointer::<{ offset_of!(xdp_md, data) }>(self.context()) }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: the context is the program's own.
        unsafe { packet::pointer::<{ offset_of!(xdp_md, data_end) }>(self.context()) }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        (self.data_end() - self.data()) as u32
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn place(&self) -> Place {
        Place::UplinkIngress
    }

    #[inline(always)]
    fn is_from_host(&self) -> bool {
        false
    }

    #[inline(always)]
    fn context(&self) -> *mut core::ffi::c_void {
        self.0.as_ptr()
    }

    #[inline(always)]
    fn is_for_us(&self, first: u64) -> bool {
        match DEVICES.get(self.ifindex()) {
            Some(device) => (first ^ device.word) & device::MAC_MASK == 0,
            None => false,
        }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // Tags stand in the frame here: receive stripping is off on devices with VLANs, or XDP is not used on them.
        false
    }

    #[inline(always)]
    fn pull(&self, _len: u32) -> bool {
        true
    }

    #[inline(always)]
    fn tail_call(&self, stage: Stage) {
        // SAFETY: the stages are XDP programs that hold nothing across the call.
        unsafe { XDP_STAGES.tail_call(&self.0, stage as u32) }
    }

    #[inline(always)]
    fn redirect(&self, ifindex: u32) -> Option<Verdict> {
        if ifindex == self.ifindex() {
            return Some(Verdict::Transmit(Reason::Sent));
        }
        // A device that is not in the map is one that cannot take XDP frames: it would lose them silently.
        match TX_DEVICES.redirect(ifindex, xdp_action::XDP_PASS as u64) {
            Ok(_) => Some(Verdict::Redirect(Reason::Sent)),
            Err(_) => None,
        }
    }

    #[inline(always)]
    fn redirect_neighbour(&self, _ifindex: u32) -> Option<Verdict> {
        None
    }

    #[inline(always)]
    fn receive(&self, _ifindex: u32) -> Option<Verdict> {
        None
    }

    #[inline(always)]
    fn reflect(&self, reason: Reason) -> Verdict {
        Verdict::Answered(reason)
    }

    #[inline(always)]
    fn update_checksum(&self, at: usize, delta_addr: u16, delta_port: u16, udp: bool) -> bool {
        let Some(field) = packet::at::<u16>(self, at) else {
            return false;
        };
        let delta = checksum::add(delta_addr, delta_port);
        // SAFETY: `at` checked the bounds.
        unsafe {
            let old = field.read_unaligned();
            field.write_unaligned(if udp {
                checksum::update_udp(old, delta)
            } else {
                checksum::update(old, delta)
            });
        }
        true
    }

    #[inline(always)]
    fn store_network6(&self, at: usize, head: u32, pair: [u64; 4]) -> bool {
        let Some(field) = packet::at::<[u8; 36]>(self, at) else {
            return false;
        };
        let field: *mut u8 = field.cast();
        // SAFETY: `at` checked the bounds.
        unsafe {
            field.cast::<u32>().write_unaligned(head);
            <crate::family::V6 as crate::family::Family>::store(field.add(4), pair);
        }
        true
    }

    #[inline(always)]
    fn set_len(&self, len: u32) -> bool {
        let delta = len as i32 - self.len() as i32;
        // SAFETY: the context is the program's own.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, delta) == 0 }
    }

    #[inline(always)]
    fn make_room(&self, len: i32) -> bool {
        let Some(eth) = packet::at::<[u8; 14]>(self, 0) else {
            return false;
        };
        // SAFETY: `at` checked the bounds.
        let (head, tail) = unsafe {
            (
                eth.cast::<u64>().read_unaligned(),
                eth.cast::<u8>().add(6).cast::<u64>().read_unaligned(),
            )
        };
        // SAFETY: the context is the program's own.
        if unsafe { bpf_xdp_adjust_head(self.0.ctx, -len) } != 0 {
            return false;
        }
        let Some(eth) = packet::at::<[u8; 14]>(self, 0) else {
            return false;
        };
        // SAFETY: `at` checked the bounds.
        unsafe {
            eth.cast::<u64>().write_unaligned(head);
            eth.cast::<u8>().add(6).cast::<u64>().write_unaligned(tail);
        }
        true
    }
}
