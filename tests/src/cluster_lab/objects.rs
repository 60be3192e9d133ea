//! The cluster's objects: manifests in a directory, which the agents read themselves or an API-server double holds.
//!
//! Must not know: which objects.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lb_userspace::source::dir;

use crate::agent::Source;
use crate::apiserver::{ApiServer, Authority};
use crate::netns::NsHandle;
use crate::publish::publish;
use crate::scratch::Scratch;

/// The ranges Services' addresses are from.
pub(super) const CLUSTER_IPS: [&str; 2] = ["10.96.0.0/16", "fd00:96::/108"];

/// Manifests, and who passes them on.
#[derive(Debug)]
pub(super) struct Objects {
    // Dropped before the files that it was started with.
    api: Option<ApiServer>,
    scratch: Scratch,
}

impl Objects {
    /// A directory the agents read.
    pub(super) fn in_directory() -> Result<Self> {
        let objects = Self {
            api: None,
            scratch: Scratch::new("cluster")?,
        };
        for path in [objects.manifests(), objects.state()] {
            fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(objects)
    }

    /// An API server in a namespace, over TLS.
    pub(super) fn in_api(ns: &NsHandle, address: SocketAddr) -> Result<Self> {
        let api = ApiServer::builder().inside(ns).listen(address);
        let api = api.tls(&Authority::new()?).start()?;
        let objects = Self {
            api: Some(api),
            ..Self::in_directory()?
        };
        if let Some(api) = &objects.api {
            api.kubeconfig().write(&objects.kubeconfig())?;
        }
        Ok(objects)
    }

    /// Where agents get them from.
    pub(super) fn source(&self) -> Source {
        match self.api {
            None => Source::Directory(self.manifests()),
            Some(_) => Source::Kube {
                kubeconfig: self.kubeconfig(),
            },
        }
    }

    /// The API server, where there is one.
    pub(super) fn api(&self) -> Option<&ApiServer> {
        self.api.as_ref()
    }

    /// The directory the agents remember in.
    pub(super) fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// Puts a file of manifests in place whole: written aside, then renamed.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let aside = self.scratch.path().join("written-aside");
        let path = self.manifests().join(name);
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        self.publish()
    }

    /// Removes a file of manifests.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.manifests().join(name);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        self.publish()
    }

    /// Has the API server hold what the directory does.
    fn publish(&self) -> Result<()> {
        let Some(api) = &self.api else {
            return Ok(());
        };
        let cluster = CLUSTER_IPS.map(|range| range.parse().expect("a constant"));
        let stored = dir::stored(dir::Config {
            path: self.manifests(),
            ranges: dir::Ranges::new(&cluster, 30_000..=32_767, &[])?,
            state_dir: None,
        })?;
        publish(&stored, api.store())
    }

    fn manifests(&self) -> PathBuf {
        self.scratch.path().join("manifests")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.scratch.path().join("kubeconfig")
    }
}
