//! The `xvip` command.

use std::process::ExitCode;

use clap::Parser;
use lb_userspace::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xvip: {failure}");
            failure.exit_code()
        }
    }
}
