//! The files of `tests/scenarios`: manifests, and what a node programs for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The node whose datapath is expected.
pub const HERE: &str = "here";
/// What separates a file's manifests from its expectation.
const EXPECTED: &str = "\n---\nexpected: |\n";
/// Fewer files than this, and some are missing.
const LEAST: usize = 10;

/// A file of scenarios.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    path: PathBuf,
    /// Its manifests.
    pub manifests: String,
    /// Frontends, backends and remarks of the source, each followed by an empty line where more follows.
    pub expected: Vec<String>,
}

impl Scenario {
    /// All of them, by name.
    ///
    /// # Errors
    /// When they cannot be read, or hardly any are there.
    pub fn all() -> Result<Vec<Self>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let entries = fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        ensure!(paths.len() >= LEAST, "only {} scenarios found", paths.len());
        paths.into_iter().map(Self::read).collect()
    }

    fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let (manifests, expected) = text.split_once(EXPECTED).unwrap_or((text.trim_end(), ""));
        let lines = expected.lines();
        let lines = lines.map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned());
        Ok(Self {
            path,
            manifests: manifests.to_owned(),
            expected: lines.collect(),
        })
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }

    /// Its manifests, one by one.
    #[must_use]
    pub fn documents(&self) -> Vec<&str> {
        self.manifests.split("\n---\n").collect()
    }

    /// Writes the file with another expectation.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, expected: &[String]) -> Result<()> {
        let indented = expected.iter().map(|line| match line.as_str() {
            "" => "\n".to_owned(),
            line => format!("  {line}\n"),
        });
        let text = format!("{}{EXPECTED}{}", self.manifests, indented.collect::<String>());
        fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))
    }
}
