//! The way to the API servers: addresses, certificates, credentials; and which of several servers is in use.
//!
//! Owns: what a kubeconfig or a service account says ([`credentials`]), the HTTP client ([`client`]), and going from a server that
//! does not work to the next one. Must not know: what is asked for.

mod client;
mod credentials;
mod error;
mod servers;
#[cfg(test)]
mod tests;
mod token;

use std::path::PathBuf;

pub use error::AccessError;
pub(in crate::source::kube) use servers::Recovery;
pub use servers::{ServerId, Servers};

use self::credentials::ServiceAccount;

/// Where the API servers are, and who we are to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig; without it the service account of the pod is used.
    pub kubeconfig: Option<PathBuf>,
    /// Addresses of API servers, tried in turn. Empty: the kubeconfig's, or the one the environment names.
    pub servers: Vec<http::Uri>,
}

impl Access {
    /// Reads what there is to read; connects to nobody, and needs no runtime.
    ///
    /// # Errors
    /// There is no way to the API servers.
    pub fn check(&self) -> Result<(), AccessError> {
        let here = ServiceAccount::here();
        for server in self.each_server() {
            client::check(&credentials::read(self, server, &here)?)?;
        }
        Ok(())
    }

    /// The servers, `None` being the one that the credentials come with.
    fn each_server(&self) -> Vec<Option<&http::Uri>> {
        if self.servers.is_empty() {
            vec![None]
        } else {
            self.servers.iter().map(Some).collect()
        }
    }
}
