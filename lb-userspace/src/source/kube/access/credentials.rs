//! Who we are, and whom to believe: what a kubeconfig or the pod's service account says.
//!
//! Owns: reading them, and refusing what this client cannot do. They are read again whenever a server failed ([`super::Servers`]), so
//! that certificates that were replaced are used. Must not know: connections.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use http::header::{HeaderValue, USER_AGENT};
use kube::config::{AuthInfo, Kubeconfig, KubeconfigError};

use super::{Access, AccessError};

/// As we call ourselves in the API server's audit log.
const NAME: &str = concat!("xvip/", env!("CARGO_PKG_VERSION"));
/// Where Kubernetes puts a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A server, and what it asks for and shows.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Everything but a token in a file.
    pub(super) config: kube::Config,
    /// A bearer token that is replaced from time to time.
    pub(super) token_file: Option<PathBuf>,
}

/// What Kubernetes gives a pod.
#[derive(Clone, Debug)]
pub(super) struct ServiceAccount {
    /// Holds `token` and `ca.crt`.
    pub(super) directory: PathBuf,
    /// `KUBERNETES_SERVICE_HOST`
    pub(super) host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`
    pub(super) port: Option<String>,
}

impl ServiceAccount {
    /// This process's.
    pub(super) fn here() -> Self {
        Self {
            directory: SERVICE_ACCOUNT.into(),
            host: std::env::var("KUBERNETES_SERVICE_HOST").ok(),
            port: std::env::var("KUBERNETES_SERVICE_PORT").ok(),
        }
    }

    /// Whether the server the environment names is reached by a ClusterIP, as far as can be told: an address there is one
    /// unless somebody wrote another into the pod.
    pub(super) fn is_cluster_ip(&self) -> bool {
        let address: Option<IpAddr> = self.host.as_ref().and_then(|host| host.parse().ok());
        address.is_some_and(|address| !address.is_loopback())
    }

    fn server(&self) -> Result<Uri, AccessError> {
        let (Some(host), Some(port)) = (&self.host, &self.port) else {
            let reason = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not both set".to_owned();
            return Err(AccessError::NoServer { reason });
        };
        let host = match host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.clone(),
        };
        let url = format!("https://{host}:{port}");
        url.parse().map_err(|error| AccessError::NoServer {
            reason: format!("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make {url}: {error}"),
        })
    }
}

/// Reads what is needed for a server; `None` is the one that the credentials come with.
pub(super) fn read(
    access: &Access,
    server: Option<&Uri>,
    here: &ServiceAccount,
) -> Result<Target, AccessError> {
    let mut target = match &access.kubeconfig {
        Some(path) => of_kubeconfig(path)?,
        None => of_service_account(here, server)?,
    };
    if let Some(server) = server {
        target.config.cluster_url = server.clone();
    }
    let name = HeaderValue::from_static(NAME);
    target.config.headers.push((USER_AGENT, name));
    refuse_plain_text(&target)?;
    Ok(target)
}

fn of_service_account(here: &ServiceAccount, server: Option<&Uri>) -> Result<Target, AccessError> {
    let token = here.directory.join("token");
    if let Err(source) = fs::metadata(&token) {
        return Err(AccessError::NoCredentials { token, source });
    }
    let server = server.map_or_else(|| here.server(), |server| Ok(server.clone()))?;
    let mut config = kube::Config::new(server);
    // No roots but those of the file, which `kube` reads again as it is replaced.
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(here.directory.join("ca.crt"));
    Ok(Target {
        config,
        token_file: Some(token),
    })
}

fn of_kubeconfig(path: &Path) -> Result<Target, AccessError> {
    let refused = |reason: String| AccessError::Kubeconfig {
        path: path.to_owned(),
        reason,
    };
    let mut kubeconfig = Kubeconfig::read_from(path).map_err(|error| refused(words(error)))?;
    refuse_proxy(&mut kubeconfig).map_err(refused)?;
    let mut config = kube::Config::try_from(kubeconfig).map_err(|error| refused(words(error)))?;
    config.proxy_url = None;
    let authority = config.cluster_url.authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        // What stands there may be a password, and the URL is in every message about the server.
        return Err(refused("server: a user in the URL is not used".to_owned()));
    }
    refuse_programs(&config.auth_info).map_err(refused)?;
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err(refused("certificate-authority holds no certificate".to_owned()));
    }
    let token_file = config.auth_info.token_file.take().map(PathBuf::from);
    if token_file.is_some() {
        // As in client-go: a token beside the file is what the file held once.
        config.auth_info.token = None;
    }
    Ok(Target { config, token_file })
}

/// Refuses `proxy-url`, and keeps `kube` from looking for one in the environment: what is meant for downloads must not come
/// between a node and its control plane.
fn refuse_proxy(kubeconfig: &mut Kubeconfig) -> Result<(), String> {
    for named in &mut kubeconfig.clusters {
        let Some(cluster) = &mut named.cluster else {
            continue;
        };
        if cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) {
            return Err(format!(
                "cluster {}: proxy-url is not supported: name servers that this node reaches itself (--api-server)",
                named.name
            ));
        }
        cluster.proxy_url = Some("http://environment.invalid".to_owned());
    }
    Ok(())
}

/// The agent works before anything else on the node does: its credentials may not depend on a program with needs of its own.
fn refuse_programs(user: &AuthInfo) -> Result<(), String> {
    let what = match user {
        AuthInfo { exec: Some(_), .. } => "exec",
        AuthInfo {
            auth_provider: Some(_),
            ..
        } => "auth-provider",
        _ => return Ok(()),
    };
    Err(format!(
        "the user's credentials come from a program ({what}), which is not supported: a token, a tokenFile or a client \
         certificate is wanted"
    ))
}

/// A token that travels in clear text is everybody's.
fn refuse_plain_text(target: &Target) -> Result<(), AccessError> {
    let server = &target.config.cluster_url;
    let user = &target.config.auth_info;
    let secret = target.token_file.is_some() || user.token.is_some() || user.password.is_some();
    if server.scheme_str() != Some("https") && secret && !is_loopback(server) {
        return Err(AccessError::PlainText {
            server: server.clone(),
        });
    }
    Ok(())
}

fn is_loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What `kube` says, without saying twice which file it is about.
fn words(error: KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => format!("cannot be read: {error}"),
        KubeconfigError::CurrentContextNotSet => "current-context is not set".to_owned(),
        KubeconfigError::LoadContext(name) => format!("current-context: there is no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("there is no cluster {name:?}"),
        KubeconfigError::MissingClusterUrl => "the cluster has no server".to_owned(),
        other => other.to_string(),
    }
}
