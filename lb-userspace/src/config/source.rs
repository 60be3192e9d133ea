//! Where Services come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The source of Services, EndpointSlices and Nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Kubernetes API.
    Kube,
    /// A directory of manifests.
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("dir:") {
            Some("") => Err("\"dir:\" names no directory: dir:PATH is wanted".to_owned()),
            Some(path) => Ok(Self::Directory(path.into())),
            None if text == "kube" => Ok(Self::Kube),
            None => Err(format!("{text:?} is no source: kube or dir:PATH is wanted")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kube => f.write_str("kube"),
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
        }
    }
}
