//! Writing kubeconfig files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A kubeconfig of one cluster and one user.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    cluster: Value,
    user: Value,
}

impl Kubeconfig {
    /// For a server by its URL, nobody in particular.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            cluster: json!({"server": url}),
            user: json!({}),
        }
    }

    /// With the certificate authority to believe, in PEM, embedded.
    #[must_use]
    pub fn ca(mut self, pem: &str) -> Self {
        self.cluster["certificate-authority-data"] = STANDARD.encode(pem).into();
        self
    }

    /// With a bearer token, embedded.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.user["token"] = token.into();
        self
    }

    /// With a file that holds the bearer token.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.user["tokenFile"] = path.into().to_string_lossy().into();
        self
    }

    /// The file's content.
    #[must_use]
    pub fn content(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": self.cluster}],
            "users": [{"name": "lab", "user": self.user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        })
    }

    /// Writes the file; JSON is YAML.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.content().to_string()).with_context(|| format!("writing {}", path.display()))
    }
}
