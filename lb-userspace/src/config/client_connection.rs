//! How the API servers are reached (source kube).

use std::path::PathBuf;

use super::api_server::ApiServer;

/// `clientConnection`. Without either, the pod's service account and environment say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConnection {
    /// `clientConnection.kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `clientConnection.apiServers`
    pub api_servers: Vec<ApiServer>,
}
