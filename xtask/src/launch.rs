//! `cargo xtask demo` and `cargo xtask bench`: builds the release binaries and becomes one of them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    host,
    setup::setup,
    step::{cargo, line, run, step, workspace},
};

/// Builds, then replaces this process by `binary`, so that its signals and exit code are the user's own.
pub(crate) fn launch(binary: &str, arguments: &[OsString]) -> Result<()> {
    setup()?;
    step("release build", || {
        run(cargo().args([
            "build",
            "--release",
            "--locked",
            "--package",
            "lb-userspace",
            "--package",
            "lb-tests",
        ]))
    })?;
    let mut program = Command::new(release_directory()?.join(binary));
    program.args(arguments);
    let asks_for_help = arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    if !host::is_root() && !asks_for_help {
        bail!(
            "{binary} makes network namespaces and loads programs, which takes root. It is built; type:\n\n    sudo -E {}\n",
            line(&program)
        );
    }
    Err(program.exec()).with_context(|| format!("cannot start {}", line(&program)))
}

/// Where cargo puts release binaries, from where it put this one: `TARGET_DIR/debug/xtask`.
fn release_directory() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("xtask does not know its own path")?;
    let profile = executable
        .parent()
        .filter(|profile| profile.file_name() != Some(OsStr::new("deps")));
    let target_dir = profile.and_then(|profile| profile.parent());
    Ok(target_dir
        .map_or_else(|| workspace().join("target"), PathBuf::from)
        .join("release"))
}
