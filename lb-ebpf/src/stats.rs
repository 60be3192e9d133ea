//! Counters, one set a CPU: no CPU writes another's.

use crate::maps::{REASONS, SERVICE_STATS};
use lb_common::reason::Reason;
use lb_common::stats::ServiceStats;

/// Counts a reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own counter.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
fn with(service: u32, update: impl FnOnce(&mut ServiceStats)) {
    if let Some(stats) = SERVICE_STATS.get_ptr_mut(service) {
        // SAFETY: this CPU's own counters.
        update(unsafe { &mut *stats });
    }
}

/// Counts a packet of a service port.
#[inline(always)]
pub fn packet(service: u32, bytes: u32) {
    with(service, |s| {
        s.packets += 1;
        s.bytes += bytes as u64;
    });
}

/// Counts a new flow of a service port.
#[inline(always)]
pub fn connection(service: u32) {
    with(service, |s| s.connections += 1);
}

/// Counts a new connection that was rejected or dropped.
#[inline(always)]
pub fn refused(service: u32) {
    with(service, |s| s.refused += 1);
}
