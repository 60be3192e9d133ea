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
    /// The error and its causes, each once: some errors name their cause themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(error) | Self::Refused(error)) = self;
        let mut text = String::new();
        for cause in error.chain() {
            let cause = cause.to_string();
            if text.is_empty() {
                text = cause;
            } else if !text.ends_with(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_that_was_named_is_not_named_again() {
        let error = anyhow!("no such file")
            .context("dir: no such file")
            .context("cannot check");
        assert_eq!(
            Failure::Failed(error).to_string(),
            "cannot check: dir: no such file"
        );
    }
}
