//! Builds the kernel programs afresh and puts the object where `lb-userspace` embeds it from:
//! `$OUT_DIR/lb-ebpf.o`.

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

/// What the object is made of, relative to the workspace.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows this as it is; a panic would bury it under a backtrace.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> io::Result<()> {
    let out_dir = directory("OUT_DIR")?;
    let manifest_dir = directory("CARGO_MANIFEST_DIR")?;
    let workspace = manifest_dir
        .parent()
        .ok_or_else(|| io::Error::other("the crate has no workspace"))?;

    for source in SOURCES {
        rerun_if_changed(&workspace.join(source));
    }
    for name in [toolchain::RUSTC_OVERRIDE, toolchain::LINKER_OVERRIDE] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let tools = Toolchain::find().map_err(|missing| {
        io::Error::other(format!(
            "{missing}\nThe kernel programs cannot be built without it. Type this once:\n\n    cargo xtask setup\n"
        ))
    })?;
    rerun_if_changed(&tools.compiler.rustc);
    rerun_if_changed(&tools.linker);

    let target_dir = kernel_object::target_dir_of(&out_dir).unwrap_or(&out_dir);
    let object = kernel_object::build(&tools, workspace, target_dir, kernel_object::DATAPATH)?;
    fs::copy(object, out_dir.join("lb-ebpf.o"))?;
    Ok(())
}

fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn directory(variable: &str) -> io::Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo did not set {variable}")))
}
