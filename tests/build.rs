//! Builds the benchmark's generators and reference programs: `$OUT_DIR/bench.o`.

use std::process::ExitCode;

#[path = "../xtask/src/embed.rs"]
mod embed;
#[path = "../xtask/src/kernel_object.rs"]
mod kernel_object;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    embed::embed("lb-ebpf-bench", "bench.o")
}
