//! Stages 5 and 6: the client's remembered backend, or a new choice.

use super::OnStack;
use crate::maps::{AFFINITY, BACKENDS, SLOTS};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use lb_common::addr::Addr;
use lb_common::affinity::{AffinityKey, AffinityValue};
use lb_common::backend::{Backend, IN_CLUSTER_LIST, IN_LOCAL_LIST};
use lb_common::lifetime::expired;
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, SlotRange, flags};

/// Choices that turn out dead, before giving up. Slots are switched before a generation turns odd, so only a record that was read
/// just before its switch names dead backends; if it names no others, the packet is dropped and the client's next one finds
/// the new record.
const ATTEMPTS: usize = 4;

/// A backend for a new flow.
pub struct Choice {
    /// Its index.
    pub index: u32,
    /// Its record.
    pub backend: *const Backend,
    /// Its generation when chosen: even.
    pub generation: u32,
}

/// What the record says to clients on this side.
pub struct Side {
    /// Their slots.
    pub range: SlotRange,
    /// The list the range holds, as a bit of [`Backend::flags`].
    pub list: u8,
    /// What an empty range means.
    pub when_empty: Reason,
}

/// # Safety
/// `record` points at a map value.
#[inline(always)]
pub unsafe fn side(record: *const ServiceRecord, inside: bool) -> Side {
    // SAFETY: the caller's promise.
    let (range, bits) = unsafe {
        let range = if inside {
            &raw const (*record).inside
        } else {
            &raw const (*record).outside
        };
        // Offset and length in one load: a record is never changed while it can be reached, but loads are cheap to keep whole.
        let both = range.cast::<u64>().read_volatile();
        (
            SlotRange {
                offset: both as u32,
                len: (both >> 32) as u32,
            },
            (*record).flags,
        )
    };
    let (local, drop) = if inside {
        (flags::INSIDE_LOCAL_LIST, flags::INSIDE_DROP)
    } else {
        (flags::OUTSIDE_LOCAL_LIST, flags::OUTSIDE_DROP)
    };
    Side {
        range,
        list: if bits & local != 0 {
            IN_LOCAL_LIST
        } else {
            IN_CLUSTER_LIST
        },
        when_empty: if bits & drop != 0 {
            Reason::NoLocalEndpoints
        } else {
            Reason::Rejected
        },
    }
}

#[inline(always)]
fn alive(index: u32, service: u32) -> Option<Choice> {
    let backend = BACKENDS.get_ptr(index)?;
    // SAFETY: a pointer into a map value; words are read once.
    unsafe {
        let generation = (&raw const (*backend).generation).read_volatile();
        if generation & 1 == 0 && (*backend).service == service {
            Some(Choice {
                index,
                backend,
                generation,
            })
        } else {
            None
        }
    }
}

/// An even random choice from the range.
#[inline(always)]
pub fn choose(range: SlotRange, service: u32) -> Option<Choice> {
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        // SAFETY: plain helper call.
        let random = unsafe { bpf_get_prandom_u32() };
        let slot = range.offset + ((random as u64 * range.len as u64) >> 32) as u32;
        let index = SLOTS.get_ptr(slot)?;
        // SAFETY: a pointer into a map value, one word.
        if let Some(choice) = alive(unsafe { index.read_volatile() }, service) {
            return Some(choice);
        }
        attempt += 1;
    }
    None
}

/// The backend the client had last, if it is still in the list this path may use (S33) and the timeout has not passed (S32).
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, the key would be copied once more on the stack"
)]
pub fn remembered(client: Addr, service: u32, list: u8, timeout: u32, now: u32) -> Option<Choice> {
    let key = OnStack(AffinityKey { client, service });
    let value = AFFINITY.get_ptr(&key.0)?;
    // The element may be recycled under these reads: whatever they mix, the backend must be one of this service's, of the
    // present epoch and in the list.
    // SAFETY: a pointer into a map value; words are read once.
    let (index, epoch, last_used) = unsafe {
        (
            (&raw const (*value).backend).read_volatile(),
            (&raw const (*value).epoch).read_volatile(),
            (&raw const (*value).last_used).read_volatile(),
        )
    };
    if expired(now, last_used, timeout) {
        return None;
    }
    let choice = alive(index, service)?;
    // SAFETY: as above.
    unsafe {
        if (&raw const (*choice.backend).epoch).read_volatile() == epoch
            && (*choice.backend).flags & list != 0
        {
            Some(choice)
        } else {
            None
        }
    }
}

/// Remembers the choice; a full map forgets its oldest.
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, the key would be copied once more on the stack"
)]
pub fn remember(client: Addr, service: u32, choice: &Choice, now: u32) {
    let key = OnStack(AffinityKey { client, service });
    // SAFETY: a pointer into a map value.
    let epoch = unsafe { (&raw const (*choice.backend).epoch).read_volatile() };
    let value = OnStack(AffinityValue {
        backend: choice.index,
        epoch,
        last_used: now,
    });
    // An error means no memory: the client will be balanced anew, which is all that can be done.
    let _ = AFFINITY.insert(&key.0, &value.0, 0);
}
