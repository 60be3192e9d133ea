//! xvip's automation, the same by hand and in CI. The only place of the project that runs other tools.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod apt;
mod check_object;
#[cfg(test)]
mod conformance;
mod host;
mod kernel_object;
mod launch;
mod object_file;
mod rules;
mod setup;
mod step;
mod test;
mod toolchain;

use step::{cargo, run, step};

/// Builds, tests and shows xvip.
///
/// Every command first does what `setup` does. Building needs no root; running the kernel programs (test, demo,
/// bench) does.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install the compiler and the linker of the kernel programs
    ///
    /// Takes either Debian's packages (a compiler with a prebuilt `core` for BPF; installed with apt-get when
    /// root) or rustup's rust-src component, and builds bpf-linker once into the user's cache directory. Where
    /// it cannot install something it prints the line to type. Quick when everything is there.
    ///
    /// XVIP_BPF_RUSTC and XVIP_BPF_LINKER name a compiler and a linker to use instead.
    Setup,
    /// Build everything: the kernel programs and, with them embedded, the xvip binary
    Build {
        /// Optimised, into target/release; without it for debugging, into target/debug
        #[arg(long)]
        release: bool,
    },
    /// Format check, clippy, check of the kernel object, then every test
    ///
    /// Runs the tests with cargo-nextest where it is installed (groups and time limits: .config/nextest.toml),
    /// else with `cargo test`.
    Test {
        /// Run only the tests whose name contains this, and none of the other checks
        filter: Option<String>,
    },
    /// Print which tests name which rule of docs/semantics.md; a rule without a test is an error
    Rules,
    /// Check that the kernel object holds no panic and no unintended call; print each program's length
    CheckObject,
    /// Run Services on a small cluster of network namespaces and show what happens to real traffic
    ///
    /// Takes Kubernetes manifests; without any it brings its own. `cargo xtask demo --help` is the demo's own.
    #[command(disable_help_flag = true)]
    Demo {
        /// Manifests and options, handed to the demo as they are
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "MANIFEST.yaml|OPTION"
        )]
        arguments: Vec<OsString>,
    },
    /// Measure: `bench datapath [--quick] [--json FILE] [--plots DIR]`
    ///
    /// `cargo xtask bench --help` is the benchmark's own.
    #[command(disable_help_flag = true)]
    Bench {
        /// What to measure and options, handed to the benchmark as they are
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "WHAT|OPTION"
        )]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup => setup::setup().map(drop),
        Verb::Build { release } => {
            setup::setup()?;
            let profile = release.then_some("--release");
            step("build", || run(cargo().args(["build", "--locked"]).args(profile)))
        }
        Verb::Test { filter } => test::test(filter.as_deref()),
        Verb::Rules => rules::rules(),
        Verb::CheckObject => check_object::check_object(&setup::setup()?),
        Verb::Demo { arguments } => launch::launch("demo", &arguments),
        Verb::Bench { arguments } => launch::launch("bench", &arguments),
    }
}
