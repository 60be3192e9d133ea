//! The cluster's objects: manifests in a directory, which the agents read themselves or an API-server double holds.
//!
//! Must not know: which objects.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lb_userspace::source::dir;

use crate::agent::Source;
use crate::apiserver::{ApiServer, Authority};
use crate::host::Wire;
use crate::publish::publish;
use crate::scratch::Scratch;

/// Where the API server listens.
const API_PORT: u16 = 6443;

/// Manifests, and who passes them on.
#[derive(Debug)]
pub(crate) struct Objects {
    // Dropped before the files that it was started with.
    api: Option<ApiServer>,
    scratch: Scratch,
    ranges: dir::Ranges,
}

impl Objects {
    /// A directory the agents read. Addresses are allocated from `ranges`.
    pub(crate) fn in_directory(label: &str, ranges: dir::Ranges) -> Result<Self> {
        let objects = Self {
            api: None,
            scratch: Scratch::new(label)?,
            ranges,
        };
        for path in [objects.manifests(), objects.state()] {
            fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(objects)
    }

    /// An API server on a wire, over TLS, which holds what the directory does.
    pub(crate) fn in_api(label: &str, ranges: dir::Ranges, wire: &Wire) -> Result<Self> {
        let address = (wire.address(false), API_PORT).into();
        let api = ApiServer::builder().inside(wire.ns()).listen(address);
        let api = api.tls(&Authority::new()?).start()?;
        let mut objects = Self::in_directory(label, ranges)?;
        api.kubeconfig().write(&objects.kubeconfig())?;
        objects.api = Some(api);
        Ok(objects)
    }

    /// Where agents get them from.
    pub(crate) fn source(&self) -> Source {
        match self.api {
            None => Source::Directory(self.manifests()),
            Some(_) => Source::Kube {
                kubeconfig: self.kubeconfig(),
            },
        }
    }

    /// The API server, where there is one.
    pub(crate) fn api(&self) -> Option<&ApiServer> {
        self.api.as_ref()
    }

    /// The directory the agents remember in.
    pub(crate) fn state(&self) -> PathBuf {
        self.beside("state")
    }

    /// Puts a file of manifests in place whole: written aside, then renamed. One that is the same already is left alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.manifests().join(name);
        if fs::read_to_string(&path).is_ok_and(|held| held == text) {
            return Ok(());
        }
        let aside = self.beside("written-aside");
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        self.publish()
    }

    /// Removes a file of manifests.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.manifests().join(name);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        self.publish()
    }

    /// The directory, and what its objects are given, to be read as the agents' own source does.
    pub(crate) fn config(&self) -> dir::Config {
        dir::Config {
            path: self.manifests(),
            ranges: self.ranges.clone(),
            state_dir: Some(self.state()),
        }
    }

    /// The directory of manifests.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.beside("manifests")
    }

    /// A place for a file that is none of the manifests, for as long as they are there.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.beside("kubeconfig")
    }

    /// Has the API server hold what the directory does.
    fn publish(&self) -> Result<()> {
        match &self.api {
            Some(api) => publish(&dir::stored(self.config())?, api.store()),
            None => Ok(()),
        }
    }
}
