//! Constants of one installation, patched by the loader before the verifier sees them (`lb_common::layout::globals`).

use aya_ebpf::Global;
use lb_common::hash::Seed;
use lb_common::lifetime::Timeouts;
use lb_common::net::{NONE4, NONE6, Net4, Net6};

/// The flow hash's secret words.
#[unsafe(no_mangle)]
static SEED: Global<[u32; 10]> = Global::new([0; 10]);
/// Buckets of `flows4` minus one.
#[unsafe(no_mangle)]
static FLOW4_MASK: Global<u32> = Global::new(0);
/// Buckets of `flows6` minus one.
#[unsafe(no_mangle)]
static FLOW6_MASK: Global<u32> = Global::new(0);
/// Ticks of jiffies a second.
#[unsafe(no_mangle)]
static HZ: Global<u32> = Global::new(250);
/// Jiffies after which a hit is no longer the hot program's: a second's worth, or 0 to see every packet in the trace.
#[unsafe(no_mangle)]
static FRESH_FOR: Global<u32> = Global::new(250);
/// Idle times in jiffies, in the order of [`Timeouts`].
#[unsafe(no_mangle)]
static TIMEOUTS: Global<[u32; 6]> = Global::new([0; 6]);
/// First port of the range for rewritten sources, and their number in the upper half.
#[unsafe(no_mangle)]
static SNAT_PORTS: Global<u32> = Global::new(0);
/// Resets and ICMP errors a second and CPU.
#[unsafe(no_mangle)]
static REJECTS_PER_SECOND: Global<u32> = Global::new(0);
/// The range ClusterIPs are taken from.
#[unsafe(no_mangle)]
static SERVICE_NET4: Global<Net4> = Global::new(NONE4);
/// The same for IPv6.
#[unsafe(no_mangle)]
static SERVICE_NET6: Global<Net6> = Global::new(NONE6);
/// The range of the cluster's pods.
#[unsafe(no_mangle)]
static CLUSTER_NET4: Global<Net4> = Global::new(NONE4);
/// The same for IPv6.
#[unsafe(no_mangle)]
static CLUSTER_NET6: Global<Net6> = Global::new(NONE6);

/// The first `N` words of a global, and no others: each is a load. In one piece they would be copied by a call.
#[inline(always)]
fn words<const N: usize, const ALL: usize>(global: &'static Global<[u32; ALL]>) -> [u32; ALL] {
    const { assert!(N <= ALL) };
    let mut words = [0; ALL];
    let mut i = 0;
    while i < N {
        // SAFETY: a word of the static; volatile, for the loader has changed it behind the compiler's back.
        words[i] = unsafe { (&raw const *global).cast::<u32>().add(i).read_volatile() };
        i += 1;
    }
    words
}

/// The first `N` secret words.
#[inline(always)]
pub fn seed<const N: usize>() -> Seed {
    Seed(words::<N, _>(&SEED))
}

#[inline(always)]
pub fn flow4_mask() -> u32 {
    FLOW4_MASK.load()
}

#[inline(always)]
pub fn flow6_mask() -> u32 {
    FLOW6_MASK.load()
}

#[inline(always)]
pub fn hz() -> u32 {
    HZ.load()
}

#[inline(always)]
pub fn fresh_for() -> u32 {
    FRESH_FOR.load()
}

#[inline(always)]
pub fn timeouts() -> Timeouts {
    let [tcp_open, tcp_established, tcp_closing, tcp_reset, udp, udp_stream] = TIMEOUTS.load();
    Timeouts {
        tcp_open,
        tcp_established,
        tcp_closing,
        tcp_reset,
        udp,
        udp_stream,
    }
}

/// First port and number of ports.
#[inline(always)]
pub fn snat_ports() -> (u16, u32) {
    let both = SNAT_PORTS.load();
    (both as u16, both >> 16)
}

#[inline(always)]
pub fn service_net4() -> Net4 {
    SERVICE_NET4.load()
}

#[inline(always)]
pub fn service_net6() -> Net6 {
    words::<8, _>(&SERVICE_NET6)
}

#[inline(always)]
pub fn cluster_net4() -> Net4 {
    CLUSTER_NET4.load()
}

#[inline(always)]
pub fn cluster_net6() -> Net6 {
    words::<8, _>(&CLUSTER_NET6)
}

#[inline(always)]
pub fn rejects_per_second() -> u32 {
    REJECTS_PER_SECOND.load()
}
