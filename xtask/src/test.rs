//! `cargo xtask test`: every check, then every test.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    check_object::check_object,
    host,
    rules::rules,
    setup::setup,
    step::{cargo, line, run, step},
};

/// The kernel programs are built for their own target and tested through the packages that load them.
const TESTED: &[&str] = &["--workspace", "--exclude", "lb-ebpf", "--locked"];

/// How many tests run at once without nextest, which has it from `.config/nextest.toml`.
const THREADS: &str = "--test-threads=2";

/// Runs everything; with a filter, only the tests whose name contains it.
pub(crate) fn test(filter: Option<&str>) -> Result<()> {
    let tools = setup()?;
    if filter.is_none() {
        step("cargo fmt --check", || {
            run(cargo().args(["fmt", "--all", "--check"]))
        })?;
        step("cargo clippy, warnings are errors", || {
            run(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "--deny",
                "warnings",
            ]))
        })?;
        step("every rule has a test", rules)?;
        check_object(&tools)?;
    }
    // Tests that start a binary of another package find it built.
    step("build", || run(cargo().arg("build").args(TESTED)))?;
    if !host::is_root() {
        eprintln!(
            "note: not root. Tests that make network namespaces or load programs will fail; to run them, type:\n\n    \
             sudo -E env \"PATH=$PATH\" cargo xtask test\n"
        );
    }
    if filter.is_none() {
        step("documentation tests", || {
            run(cargo().args(["test", "--doc"]).args(TESTED))
        })?;
    }
    eprintln!("==> tests");
    // Becomes the runner: its summary closes the output, and its exit code is ours.
    let mut runner = runner(filter);
    Err(runner.exec()).with_context(|| format!("cannot start {}", line(&runner)))
}

/// nextest where it is installed, as it ends a test that hangs; else cargo's own.
fn runner(filter: Option<&str>) -> Command {
    let mut command = cargo();
    if host::which("cargo-nextest").is_some() {
        command.args(["nextest", "run"]).args(TESTED).args(filter);
    } else {
        command
            .args(["test", "--no-fail-fast", "--lib", "--bins", "--tests"])
            .args(TESTED)
            .args(filter);
        command.args(["--", THREADS]);
    }
    command
}
