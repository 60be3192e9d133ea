//! Atomic operations and compiler barriers for memory that several CPUs share.
//!
//! The BPF target is declared single-threaded: Rust's atomics would be lowered as if one CPU existed, so the instructions are
//! written out here. On the host (lints and editors only) the standard atomics stand in.

/// Orders the compiler's loads and stores; x86 keeps loads with loads and stores with stores by itself.
#[inline(always)]
pub fn barrier() {
    #[cfg(target_arch = "bpf")]
    // SAFETY: no instruction at all; without options it counts as touching all memory.
    unsafe {
        core::arch::asm!("");
    }
    #[cfg(not(target_arch = "bpf"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// Compare and exchange; returns what was there.
///
/// # Safety
/// `word` points at an aligned word of a map value.
#[inline(always)]
pub unsafe fn compare_exchange(word: *mut u32, old: u32, new: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let seen: u32;
        // SAFETY: the caller's promise; `w0` is the instruction's implicit operand.
        unsafe {
            core::arch::asm!("w0 = cmpxchg32_32({p} + 0, w0, {n})", p = in(reg) word, n = in(wreg) new, inout("w0") old => seen);
        }
        seen
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU32, Ordering};
        // SAFETY: the caller's promise.
        let atomic = unsafe { AtomicU32::from_ptr(word) };
        match atomic.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(seen) | Err(seen) => seen,
        }
    }
}

/// Stores by exchange: a full barrier on every CPU.
///
/// # Safety
/// `word` points at an aligned word of a map value.
#[inline(always)]
pub unsafe fn exchange(word: *mut u32, new: u32) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("{n} = xchg32_32({p} + 0, {n})", p = in(reg) word, n = inout(wreg) new => _);
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU32, Ordering};
        // SAFETY: the caller's promise.
        unsafe { AtomicU32::from_ptr(word) }.store(new, Ordering::SeqCst);
    }
}
