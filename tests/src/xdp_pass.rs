//! An XDP program that does nothing, for devices that must take what XDP transmits at their other end.
//!
//! veth delivers frames redirected to it as soon as its peer polls (GRO is enough), but those of `XDP_TX` only when the peer
//! has a program: without one they lie in its ring until something else arrives (`veth_xdp_flush` in drivers/net/veth.c).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
use nix::libc;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

use crate::link::Link;

/// `r0 = XDP_PASS; exit`
const PROGRAM: [(u8, i32); 2] = [(0xb7, 2), (0x95, 0)];
/// XDP_FLAGS_DRV_MODE (include/uapi/linux/if_link.h)
const NATIVE: u32 = 1 << 2;

impl Link {
    /// Puts the program on the device, where it stays as long as the device lives.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pass_xdp(&self) -> Result<()> {
        let program = load().context("loading the XDP program that does nothing")?;
        let attributes = vec![LinkXdp::Fd(program.as_raw_fd()), LinkXdp::Flags(NATIVE)];
        let message = LinkUnspec::new_with_index(self.index())
            .append_extra_attribute(LinkAttribute::Xdp(attributes))
            .build();
        let netlink = self.ns().netlink().clone();
        self.ns()
            .block_on(async move { netlink.link().set(message).execute().await })
            .with_context(|| format!("attaching an XDP program to {self}"))
    }
}

fn load() -> io::Result<OwnedFd> {
    let instructions = PROGRAM.map(|(code, imm)| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm,
    });
    // SAFETY: a union of plain integers, for which all zeroes are valid; the kernel demands that the bytes a command does
    // not use are zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: all bytes of the union are initialised.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    load.license = c"MIT".as_ptr() as u64;
    // SAFETY: `attr` points at as many instructions as it says and at a NUL-terminated licence, which outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_LOAD as libc::c_long,
            &raw const attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: a fresh descriptor that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
