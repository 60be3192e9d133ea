//! How a command ends.
//!
//! Owns: the exit statuses 0 (done), 1 (failed) and 2 (usage or configuration refused; clap ends with it by itself).

use std::fmt;
use std::process::ExitCode;

/// A command that did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// It was tried, and failed: status 1.
    Failed(anyhow::Error),
    /// What was asked makes no sense: status 2, before anything was touched.
    Refused(anyhow::Error),
}

impl Failure {
    /// The exit status.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Refused(_) => ExitCode::from(2),
        }
    }

    /// Wraps an error that makes the command refuse.
    pub fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self::Refused(error.into())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Failure {
    /// The error and its causes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(error) | Self::Refused(error)) = self;
        write!(f, "{error:#}")
    }
}
