//! Stage 5: may this client use the frontend (S23)? Asked once a connection, of the address the client has on the wire, before
//! anything else is: a client that may not use the frontend learns nothing of its endpoints (S46).

use super::OnStack;
use crate::maps::SOURCE_RANGES;
use aya_ebpf::btf_maps::lpm_trie::Key;
use core::mem::MaybeUninit;
use lb_common::addr::Addr;
use lb_common::source_range::{SetAddr, SourceRangeKey};

/// Whether the set holds the client; set 0 holds everybody.
#[inline(always)]
pub fn admit(set: u32, client: Addr) -> bool {
    if set == 0 {
        return true;
    }
    let mut key = MaybeUninit::<OnStack<Key<SetAddr>>>::uninit();
    let [a, b, c, d] = client.0;
    // SAFETY: twenty-four bytes, all of them written: the fields of a `SourceRangeKey` in their order.
    let key = unsafe {
        let words = key.as_mut_ptr().cast::<u32>();
        words.write_volatile(SourceRangeKey::WHOLE);
        words.add(1).write_volatile(set);
        words.add(2).write_volatile(a);
        words.add(3).write_volatile(b);
        words.add(4).write_volatile(c);
        words.add(5).write_volatile(d);
        &*key.as_ptr()
    };
    SOURCE_RANGES.get(&key.0).is_some()
}
