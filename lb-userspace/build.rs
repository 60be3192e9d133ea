//! Builds the kernel programs afresh and puts the object where `lb-userspace` embeds it from: `$OUT_DIR/lb-ebpf.o`.

use std::process::ExitCode;

#[path = "../xtask/src/embed.rs"]
mod embed;
#[path = "../xtask/src/kernel_object.rs"]
mod kernel_object;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    embed::embed("lb-ebpf", "lb-ebpf.o")
}
