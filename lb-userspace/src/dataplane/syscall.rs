//! The two bpf(2) commands that aya keeps to itself: opening a pinned link to look at it, and detaching one at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::libc;

/// Opens what is pinned at `path` (`BPF_OBJ_GET`).
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: through `attr` the command reads a NUL-terminated path, which outlives the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &attr) }?;
    // SAFETY: a fresh descriptor that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes a link off its device (`BPF_LINK_DETACH`). Removing its pin does so as well, but only some time later.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd().cast_unsigned();
    // SAFETY: the command reads nothing but the descriptor's number.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &attr) }.map(drop)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers, for which all zeroes are valid; the kernel demands that the bytes a command does
    // not use are zero.
    unsafe { std::mem::zeroed() }
}

/// # Safety
/// What `attr` points at must be what `command` expects there.
unsafe fn bpf(command: bpf_cmd, attr: &bpf_attr) -> io::Result<i32> {
    // SAFETY: the kernel reads at most the stated size of `attr`; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_ref(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
