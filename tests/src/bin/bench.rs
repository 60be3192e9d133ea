//! `cargo xtask bench`: benchmarks with a table for people, JSON and plots for others.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use lab::bench::datapath::{Effort, measure};
use lab::bench::report::Report;

/// Measures xvip.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What the kernel programs cost a packet, beside a floor, in nanoseconds (needs root)
    Datapath(Output),
}

#[derive(Args)]
struct Output {
    /// A quarter of a minute instead of minutes
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write plots (SVG) into this directory
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    let What::Datapath(output) = Arguments::parse().what;
    match datapath(&output) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn datapath(output: &Output) -> Result<ExitCode> {
    let effort = if output.quick {
        Effort::QUICK
    } else {
        Effort::THOROUGH
    };
    let bar = indicatif::ProgressBar::new_spinner();
    let figures = measure(effort, |next| {
        bar.set_message(next.to_owned());
        bar.tick();
    })?;
    bar.finish_and_clear();
    let report = Report::new(effort, figures);
    println!("{}", report.table());
    if let Some(path) = &output.json {
        report.write_json(path)?;
    }
    if let Some(directory) = &output.plots {
        report.write_plots(directory)?;
    }
    for figure in report.above_the_floor() {
        eprintln!(
            "error: {} {} {}: {:.1} ns, above the floor's {:.1} ns",
            figure.hook, figure.family, figure.scenario, figure.xvip_ns, figure.floor_ns
        );
    }
    Ok(if report.above_the_floor().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
