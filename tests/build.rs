//! Builds the kernel objects that tests and benchmarks load by themselves: `$OUT_DIR/lb-ebpf.o`, the product's, and
//! `$OUT_DIR/bench.o`, the benchmark's generators and reference programs.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[path = "../xtask/src/kernel_object.rs"]
mod kernel_object;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use toolchain::Toolchain;

/// What the objects are made of, relative to the workspace.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// The benchmark's object, by the name of its binary target.
const BENCH: &str = "lb-ebpf-bench";

fn main() -> ExitCode {
    match objects() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows this as it is; a panic would bury it under a backtrace.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn objects() -> io::Result<()> {
    let out_dir = directory("OUT_DIR")?;
    let manifest_dir = directory("CARGO_MANIFEST_DIR")?;
    let workspace = manifest_dir
        .parent()
        .ok_or_else(|| io::Error::other("the crate has no workspace"))?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    for name in [toolchain::RUSTC_OVERRIDE, toolchain::LINKER_OVERRIDE] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let tools = Toolchain::find().map_err(|missing| {
        io::Error::other(format!(
            "{missing}\nThe kernel programs cannot be built without it. Type this once:\n\n    cargo xtask setup\n"
        ))
    })?;
    let target_dir: &Path = kernel_object::target_dir_of(&out_dir).unwrap_or(&out_dir);
    for (object, file) in [(kernel_object::DATAPATH, "lb-ebpf.o"), (BENCH, "bench.o")] {
        let built = kernel_object::build(&tools, workspace, target_dir, object)?;
        fs::copy(built, out_dir.join(file))?;
    }
    Ok(())
}

fn directory(variable: &str) -> io::Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo did not set {variable}")))
}
