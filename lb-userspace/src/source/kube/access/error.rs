//! Why there is no way to the API servers: what, where, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Nobody says who we are.
    #[error(
        "nothing says who this agent is to the API server: give --kubeconfig FILE (clientConnection.kubeconfig), or run in a pod \
         with a service account ({token}: {source})", token = token.display()
    )]
    NoCredentials {
        /// The token that is missing.
        token: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A service account without the address of a server.
    #[error(
        "the environment names no API server ({reason}): give --api-server https://HOST:6443 (clientConnection.apiServers)"
    )]
    NoServer {
        /// What is wrong with the environment.
        reason: String,
    },
    /// A kubeconfig that cannot be used.
    #[error("kubeconfig {}: {reason}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A token file that cannot be used.
    #[error("token {}: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Credentials would be sent for everybody to read.
    #[error("{server}: a token or password is not sent without TLS to another host: use https://")]
    PlainText {
        /// The server.
        server: http::Uri,
    },
    /// Certificates or keys that cannot be used.
    #[error("certificates for {server}: {reason}")]
    Certificates {
        /// The server they are for.
        server: http::Uri,
        /// What is wrong with them.
        reason: String,
    },
}
