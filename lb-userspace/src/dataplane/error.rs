//! What can go wrong between the agent and the kernel, in words that say what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of the dataplane.
#[derive(Debug, Error)]
pub enum DataplaneError {
    /// The running kernel lacks what the programs need.
    #[error("kernel {found} is too old: xvip needs Linux {needed} or newer on this machine")]
    KernelTooOld {
        /// The running kernel's release.
        found: String,
        /// The oldest that will do.
        needed: String,
    },
    /// Another process works on the same directory.
    #[error("{} is in use by another xvip process: stop it first, or choose another directory with --bpffs", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing is installed there.
    #[error("no xvip maps under {}: is the agent running on this node, with this --bpffs?", path.display())]
    NotInstalled {
        /// Where they were looked for.
        path: PathBuf,
    },
    /// A pinned map is not the one this version would make.
    #[error(
        "pinned map {} does not fit this version of xvip: {differences}. It is left as it is; `xvip cleanup` removes it (and every \
         flow with it)",
        path.display()
    )]
    PinMismatch {
        /// The pin.
        path: PathBuf,
        /// What differs, found and expected.
        differences: String,
    },
    /// A setting that cannot be.
    #[error("{0}")]
    Refused(String),
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("map {map}: {}", chain(.source))]
    Map {
        /// The map, by its name in [`lb_common::layout::maps`].
        map: String,
        /// What aya said.
        source: aya::maps::MapError,
    },
    /// A program could not be loaded, run or attached.
    #[error("program {program}: {}", chain(.source))]
    Program {
        /// The program, by its name in [`lb_common::layout::programs`].
        program: String,
        /// What aya said, with the verifier's log when it spoke.
        source: Box<aya::programs::ProgramError>,
    },
    /// The embedded object does not load.
    #[error("the kernel programs do not load: {}", chain(.0))]
    Object(#[from] Box<aya::EbpfError>),
    /// The embedded object lacks something this code relies on.
    #[error("the kernel object has no {0}")]
    Missing(String),
}

/// An error with its causes: aya's own messages leave them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    last_lines(&text, MOST_LINES)
}

/// The verifier tells its way through a program in thousands of lines, and the reason last.
const MOST_LINES: usize = 40;

/// The first line of a text and its last ones.
fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= most {
        return text.to_owned();
    }
    let left_out = lines.len() - most;
    let shown = &lines[left_out + 1..];
    format!("{}\n[{left_out} lines left out]\n{}", lines[0], shown.join("\n"))
}

impl DataplaneError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    pub(super) fn map<E: Into<aya::maps::MapError>>(map: &str) -> impl FnOnce(E) -> Self {
        let map = map.to_owned();
        |source| Self::Map {
            map,
            source: source.into(),
        }
    }

    pub(super) fn program<E: Into<aya::programs::ProgramError>>(program: &str) -> impl FnOnce(E) -> Self {
        let program = program.to_owned();
        |source| Self::Program {
            program,
            source: Box::new(source.into()),
        }
    }
}

impl DataplaneError {
    /// An error of a library, with its causes.
    pub(super) fn io_other<E: std::error::Error + Send + Sync + 'static>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Io {
            what,
            source: io::Error::other(chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_shown_by_its_first_line_and_its_end() {
        assert_eq!(last_lines("a\nb\nc", 3), "a\nb\nc");
        assert_eq!(last_lines("a\nb\nc\nd\ne", 3), "a\n[2 lines left out]\nd\ne");
    }
}
