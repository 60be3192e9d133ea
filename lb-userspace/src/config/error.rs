//! Why a configuration is refused: every problem, each with where it was written.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file, at a position if it is known.
    File {
        /// The file.
        path: PathBuf,
        /// Line and column, from 1.
        position: Option<(u64, u64)>,
    },
    /// On the command line, by this flag.
    Flag(&'static str),
    /// Nowhere: it has its default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                position: Some((line, column)),
            } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::File { path, position: None } => write!(f, "{}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where it was given.
    pub origin: Origin,
    /// The field as the file spells it; empty when the file as a whole is meant.
    pub field: String,
    /// What is wrong with it, and what is wanted.
    pub reason: String,
}

impl fmt::Display for ConfigProblem {
    /// `file:line:column: field: reason`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// A configuration refused whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Everything found wrong; never empty.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigError {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration refused")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
