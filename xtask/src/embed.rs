//! What a build script does to embed a kernel object: find the tools, build, copy to `OUT_DIR`, say when to do it again.
//!
//! Build scripts alone include this file, beside [`crate::kernel_object`] and [`crate::toolchain`]; the standard library only.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::kernel_object;
use crate::toolchain::{self, Toolchain};

/// What the objects are made of, relative to the workspace.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// Builds the object of a binary target of lb-ebpf afresh and leaves it at `$OUT_DIR/file`.
pub(crate) fn embed(target: &str, file: &str) -> ExitCode {
    match try_embed(target, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo shows this as it is; a panic would bury it under a backtrace.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_embed(target: &str, file: &str) -> io::Result<()> {
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
    let object = kernel_object::build(&tools, workspace, target_dir, target)?;
    fs::copy(object, out_dir.join(file))?;
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
