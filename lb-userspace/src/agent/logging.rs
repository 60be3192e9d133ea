//! The agent's log: lines on standard error.
//!
//! Owns: which level shows. Must not know: what is logged.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogLevel, TraceLevel};

/// The variable that overrides configuration and flags, in the syntax of `tracing_subscriber::EnvFilter`.
const VARIABLE: &str = "RUST_LOG";

/// Starts logging; once a process.
///
/// # Errors
/// `RUST_LOG` cannot be understood.
pub fn start(config: &Config, verbose: u8) -> Result<()> {
    let directives = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let directives =
        directives.unwrap_or_else(|| directives_of(config.log_level, config.datapath_trace, verbose));
    let filter = EnvFilter::builder()
        .parse(&directives)
        .with_context(|| format!("{VARIABLE}={directives}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

/// The kernel programs' lines come under the name of their crate, and pass as far as they are switched on.
fn directives_of(level: LogLevel, trace: TraceLevel, verbose: u8) -> String {
    let level = match (verbose, level) {
        (0, level) => level,
        (1, LogLevel::Trace) => LogLevel::Trace,
        (1, _) => LogLevel::Debug,
        _ => LogLevel::Trace,
    };
    // Each of these tells its own inner life, thousands of lines at a start: -vv has it.
    let libraries = if level == LogLevel::Trace {
        ""
    } else {
        ",rtnetlink=warn,netlink_proto=warn,aya=warn,aya_obj=warn,notify=error"
    };
    match trace {
        TraceLevel::Off => format!("{level}{libraries}"),
        trace => format!("{level}{libraries},lb_ebpf={trace}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_only_add_to_what_is_configured() {
        for (level, verbose, expected) in [
            (LogLevel::Info, 0, "info"),
            (LogLevel::Error, 0, "error"),
            (LogLevel::Info, 1, "debug"),
            (LogLevel::Trace, 1, "trace"),
            (LogLevel::Warn, 2, "trace"),
        ] {
            let directives = directives_of(level, TraceLevel::Off, verbose);
            assert_eq!(
                directives.split(',').next(),
                Some(expected),
                "{level} -{verbose}v"
            );
        }
        assert!(directives_of(LogLevel::Warn, TraceLevel::Debug, 0).ends_with("lb_ebpf=debug"));
        assert!(directives_of(LogLevel::Info, TraceLevel::Off, 1).contains("aya_obj=warn"));
    }
}
