//! The packet's memory: its ends, and the one bounds check.

use crate::hook::Hook;
use core::ffi::c_void;

/// A pointer to `T` at `offset` of the packet, if all of it is there. Helpers that change the packet void it.
#[inline(always)]
pub fn at<T>(hook: &impl Hook, offset: usize) -> Option<*mut T> {
    let start = hook.data() + offset;
    if start + size_of::<T>() > hook.data_end() {
        None
    } else {
        Some(start as *mut T)
    }
}

/// A word of the context that is a packet pointer. The context declares it as 32 bits, which the verifier widens to a pointer;
/// LLVM must not know of the 32 bits, or it copies pointers through half registers.
///
/// # Safety
/// `context` is the program's own, and `OFFSET` that of `data` or `data_end` in it.
#[inline(always)]
pub unsafe fn pointer<const OFFSET: usize>(context: *const c_void) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let address: usize;
        // SAFETY: a load of the caller's field; the verifier wants the offset in the instruction.
        unsafe {
            core::arch::asm!("{a} = *(u32 *)({c} + {o})", a = out(reg) address, c = in(reg) context, o = const OFFSET,
                options(pure, readonly, nostack, preserves_flags));
        }
        address
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        context.cast::<u8>().add(OFFSET).cast::<u32>().read() as usize
    }
}

/// Any other word of the context. The verifier wants its offset in the instruction, too, where LLVM would have two loads of different
/// fields share one with a computed address.
///
/// # Safety
/// `context` is the program's own, and `OFFSET` that of a readable word in it.
#[inline(always)]
pub unsafe fn word<const OFFSET: usize>(context: *const c_void) -> u32 {
    // SAFETY: the caller's promise; a load of 32 bits, whatever the field.
    unsafe { pointer::<OFFSET>(context) as u32 }
}
