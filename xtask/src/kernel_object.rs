//! Builds the kernel programs into one ELF object.
//!
//! Shared with lb-userspace's build script like [`crate::toolchain`], under the same rule: the standard library
//! only. The flags below are the whole definition of the release object; nothing of the outer cargo's
//! configuration reaches it.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::toolchain::{Core, TARGET, Toolchain};

const PACKAGE: &str = "lb-ebpf";

/// - `allows-misaligned-mem-access`: without it LLVM loads the align-1 header structs byte by byte.
/// - `--btf`: the kernel and bpftool want type information for maps and programs.
///
/// The CPU is named here and not as a linker argument: rustc hands it on, and the linker refuses it twice.
const RUSTFLAGS: &[&str] = &[
    "-Ctarget-cpu=v3",
    "-Ctarget-feature=+alu32,+allows-misaligned-mem-access",
    "-Clink-arg=--btf",
];

/// Overrides of the workspace's release profile, which is tuned for user space. Full debug information is what
/// the linker makes BTF of; the linker optimises across crates by itself.
const PROFILE: &[&str] = &[
    "profile.release.opt-level=3",
    "profile.release.debug=2",
    "profile.release.strip=\"none\"",
    "profile.release.lto=\"off\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.overflow-checks=false",
    "profile.release.debug-assertions=false",
    "profile.release.incremental=false",
];

/// What the outer cargo (or clippy, or the user's flags for the host) left in the environment and would change
/// the object, or only its fingerprint: then building it from a build script and from xtask would each undo the
/// other's work. A name that ends in `_` stands for all that begin with it.
const FOREIGN_ENVIRONMENT: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "DEBUG",
    "HOST",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_",
    "RUSTDOC",
    "RUSTDOC_",
    "RUSTFLAGS",
    "TARGET",
];

/// Builds the release object of a binary target and returns its path. Cargo's output goes to standard error.
///
/// `target_dir` is the workspace's; the object gets a directory of its own in it, because the outer cargo holds
/// the lock of its own while a build script runs.
pub(crate) fn build(
    tools: &Toolchain,
    workspace: &Path,
    target_dir: &Path,
    object: &str,
) -> io::Result<PathBuf> {
    let target_dir = target_dir.join("ebpf");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if is_foreign(&name.to_string_lossy()) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            PACKAGE,
            "--bin",
            object,
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &tools.compiler.rustc)
        // aya-ebpf switches on `asm_experimental_arch`, which a stable compiler refuses otherwise.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker)
        .stdin(Stdio::null())
        .stdout(io::stderr());
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    if tools.compiler.core == Core::FromSource {
        cargo.args(["-Z", "build-std=core"]);
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "building {object} for {TARGET} failed ({status})"
        )));
    }
    Ok(target_dir.join(TARGET).join("release").join(object))
}

fn is_foreign(variable: &str) -> bool {
    FOREIGN_ENVIRONMENT
        .iter()
        .any(|&name| variable == name || name.ends_with('_') && variable.starts_with(name))
}

/// The target directory that `path` lies in: cargo tags it as a cache directory. Neither a build script nor a
/// running binary is told it directly.
pub(crate) fn target_dir_of(path: &Path) -> Option<&Path> {
    path.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
}
