//! `cargo xtask demo` runs this: see [`lab::demo`].

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use lab::demo::session::{self, Interrupted, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status of a program that Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(success) if success => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("interrupted; everything is cleaned up");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo on a thread of its own, so that signals are heard whatever it waits for.
fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _context = runtime.enter();
    let stop = CancellationToken::new();
    let mut signals = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(signal)
    .into_iter()
    .collect::<io::Result<Vec<_>>>()
    .context("listening for signals")?;
    let figures = runtime.block_on(async {
        let demo = {
            let (options, stop) = (options.clone(), stop.clone());
            tokio::task::spawn_blocking(move || session::run(&options, &stop))
        };
        tokio::pin!(demo);
        loop {
            tokio::select! {
                done = &mut demo => return done.context("the demo panicked")?,
                () = any(&mut signals) => stop.cancel(),
            }
        }
    })?;
    println!("{}", figures.summary());
    Ok(figures.is_success())
}

async fn any(signals: &mut [Signal]) {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures::future::select_all(waiting).await;
}
