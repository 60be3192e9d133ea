//! What the pipeline needs of the place it runs at. Only this folder knows `XdpContext` and `TcContext`.

pub mod tc;
pub mod xdp;

use crate::stats;
use lb_common::flow::HookClass;
use lb_common::layout::Stage;
use lb_common::reason::Reason;

/// Where a program is attached.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Packets from the outside.
    UplinkIngress = 0,
    /// Packets from a pod.
    PodIngress = 1,
    /// Packets to the outside.
    UplinkEgress = 2,
    /// Packets to a pod.
    PodEgress = 3,
    /// Packets of the host to itself.
    LoopbackEgress = 4,
}

impl Place {
    /// The flow entries that act here.
    #[inline(always)]
    pub fn class(self) -> HookClass {
        match self {
            Self::UplinkIngress => HookClass::UplinkIngress,
            Self::PodIngress => HookClass::PodIngress,
            Self::UplinkEgress | Self::PodEgress | Self::LoopbackEgress => HookClass::Egress,
        }
    }

    /// Whether packets come in here.
    #[inline(always)]
    pub fn is_ingress(self) -> bool {
        matches!(self, Self::UplinkIngress | Self::PodIngress)
    }

    /// Whether the clients that begin connections here are the host's own sockets.
    #[inline(always)]
    pub fn is_of_host(self) -> bool {
        matches!(self, Self::UplinkEgress | Self::LoopbackEgress)
    }

    /// Whether clients here are inside: pods of this node, and the node itself.
    #[inline(always)]
    pub fn is_inside(self) -> bool {
        matches!(self, Self::PodIngress) || self.is_of_host()
    }
}

/// What becomes of the packet; the entry points translate it into their hook's codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Untouched, to whoever comes next.
    Pass(Reason),
    /// Rewritten, and on its way as before: to the stack, or out of the device it is leaving by. At tc only.
    Stack(Reason),
    /// Rewritten, out of the device it came in by.
    Transmit(Reason),
    /// Rewritten, out of a device that has been asked for.
    Redirect(Reason),
    /// Turned into an answer and sent back.
    Answered(Reason),
    /// Gone.
    Drop(Reason),
}

impl Verdict {
    /// Why. Every verdict has one: a value that only some had would be an undefined register to the verifier.
    #[inline(always)]
    pub fn reason(self) -> Reason {
        match self {
            Self::Pass(reason)
            | Self::Stack(reason)
            | Self::Transmit(reason)
            | Self::Redirect(reason)
            | Self::Answered(reason)
            | Self::Drop(reason) => reason,
        }
    }

    /// Counts why, unless the packet was none of ours: most of a host's are.
    #[inline(always)]
    pub fn count(self) {
        match self {
            Self::Pass(Reason::NotOurs) => {}
            other => stats::count(other.reason()),
        }
    }
}

/// A packet at a hook.
pub trait Hook {
    /// XDP completes a packet or leaves it untouched; tc may hand a rewritten one to the stack.
    const IS_XDP: bool;

    /// aya's view of the context.
    type Context: aya_ebpf::EbpfContext;

    /// aya's view of the context, for tail calls and the trace.
    fn ebpf(&self) -> &Self::Context;
    /// Address of the first byte.
    fn data(&self) -> usize;
    /// Address behind the last byte that can be read directly.
    fn data_end(&self) -> usize;
    /// Bytes of the frame.
    fn len(&self) -> u32;
    /// The device.
    fn ifindex(&self) -> u32;
    /// Where this is.
    fn place(&self) -> Place;
    /// Whether the packet was made on this host; one that is forwarded came in by a device.
    fn is_from_host(&self) -> bool;
    /// The context, for helpers.
    fn context(&self) -> *mut core::ffi::c_void;
    /// Whether the frame is for this device, as far as its own MAC tells; `first` is the frame's first eight bytes.
    fn is_for_us(&self, first: u64) -> bool;
    /// Whether a VLAN tag has been taken off the frame: it belongs to the VLAN's device.
    fn is_tagged(&self) -> bool;
    /// Makes `len` bytes readable; what was read before is void.
    fn pull(&self, len: u32) -> bool;
    /// Goes on in another stage; returns only when that is not loaded.
    fn tail_call(&self, stage: Stage);

    /// Whether a frame can be sent out of `ifindex` from here; asks for it if so.
    fn redirect(&self, ifindex: u32) -> Option<Verdict>;
    /// Sends out of `ifindex`, the kernel resolving the neighbour.
    fn redirect_neighbour(&self, ifindex: u32) -> Option<Verdict>;
    /// Has the stack receive it by `ifindex`.
    fn receive(&self, ifindex: u32) -> Option<Verdict>;
    /// Sends back where it came from.
    fn reflect(&self, reason: Reason) -> Verdict;

    /// Updates the transport checksum at `at` for changed addresses and ports. Packet pointers are void afterwards.
    fn update_checksum(&self, at: usize, delta_addr: u16, delta_port: u16, udp: bool) -> bool;
    /// Writes the last 36 bytes of an IPv6 header (`head` and both addresses) so that the kernel's own sums stay true. Packet pointers
    /// may be void afterwards.
    fn store_network6(&self, at: usize, head: u32, pair: [u64; 4]) -> bool;

    /// Cuts or extends the frame at its end.
    fn set_len(&self, len: u32) -> bool;
    /// Makes room of `len` bytes behind the Ethernet header, which moves to the front.
    fn make_room(&self, len: i32) -> bool;
}
