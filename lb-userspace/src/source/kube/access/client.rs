//! The HTTP client: how long to wait for a server, and how to notice that it died without a word.
//!
//! Owns: sockets, TLS, credentials in requests. Must not know: where the credentials come from.
//!
//! There is no limit on how long a response takes: a watch is silent for minutes. A server whose host is gone is noticed by TCP
//! within [`DEAD_AFTER`]. Nothing is tried again here, and no proxy of the environment is asked: on the host's network one would
//! stand between the node and its own control plane.

use std::time::Duration;

use futures::FutureExt;
use http::Uri;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::middleware::{AuthLayer, ExtraHeadersLayer};
use kube::client::{Body, ConfigExt};
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::AccessError;
use super::credentials::Target;
use super::token::TokenFile;

/// Name, TCP and TLS together: more than any round trip, less than anybody waits for the next server.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection silent for this long is asked whether it lives…
const PROBE_AFTER: Duration = Duration::from_secs(15);
/// … this often …
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// … this many times.
const PROBES: u32 = 3;
/// Data or probes unanswered for this long end a connection. Linux lets this overrule the number of probes: they agree.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Whether a client can be made; needs no runtime.
pub(super) fn check(target: &Target) -> Result<(), AccessError> {
    Parts::new(target).map(drop)
}

/// A client. Needs a tokio runtime.
pub(super) fn new(target: &Target) -> Result<Client, AccessError> {
    let parts = Parts::new(target)?;
    let token = parts.token;
    let service = ServiceBuilder::new()
        .layer(target.config.base_uri_layer())
        .layer(parts.headers)
        .option_layer(parts.fixed_credentials)
        .map_request(move |request: http::Request<Body>| match &token {
            Some(token) => token.authorize(request),
            None => request,
        })
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(parts.connector));
    Ok(Client::new(service, target.config.default_namespace.clone()))
}

/// What a client is made of, so far as making it can fail.
struct Parts<C> {
    connector: C,
    headers: ExtraHeadersLayer,
    fixed_credentials: Option<AuthLayer>,
    token: Option<TokenFile>,
}

impl Parts<()> {
    fn new(target: &Target) -> Result<Parts<impl Connect + Clone + Send + Sync + 'static>, AccessError> {
        let refused = |error: &kube::Error| AccessError::Certificates {
            server: target.config.cluster_url.clone(),
            reason: error.to_string(),
        };
        let config = &target.config;
        Ok(Parts {
            connector: connector(config).map_err(|error| refused(&error))?,
            headers: config.extra_headers_layer().map_err(|error| refused(&error))?,
            fixed_credentials: config.auth_layer().map_err(|error| refused(&error))?,
            token: target.token_file.clone().map(TokenFile::open).transpose()?,
        })
    }
}

/// TLS over TCP, given up after [`CONNECT`].
fn connector(config: &kube::Config) -> kube::Result<impl Connect + Clone + Send + Sync + 'static> {
    let tls = config.rustls_https_connector_with_connector(tcp())?;
    Ok(tower::service_fn(move |server: Uri| {
        let connect = timeout(CONNECT, tls.clone().oneshot(server));
        connect
            .map(|connection| {
                connection
                    .unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT.as_secs()).into()))
            })
            .boxed()
    }))
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // TLS is laid over it.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_EVERY));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(DEAD_AFTER));
    tcp
}
