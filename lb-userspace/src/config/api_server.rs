//! The address of an API server.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// `https://HOST[:PORT]`, or `http://` for a proxy on the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer(Uri);

impl FromStr for ApiServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("{text:?} {why}; https://HOST:6443 is wanted"));
        let Ok(uri) = text.parse::<Uri>() else {
            return refused("is no URL");
        };
        let (Some("https" | "http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return refused("does not begin with https://");
        };
        if authority.as_str().contains('@') {
            // What stands there may be a password: it is not repeated.
            return Err(
                "a user in the URL is not used: credentials come from the kubeconfig or the service account"
                    .to_owned(),
            );
        }
        if authority.host().is_empty() {
            return refused("names no host");
        }
        // The parser takes any digits for a port.
        let port = authority.as_str().strip_prefix(authority.host());
        if port.is_some_and(|port| !port.is_empty()) && authority.port_u16().is_none_or(|port| port == 0) {
            return refused("has no port from 1 to 65535");
        }
        // The parser drops fragments.
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            return refused("goes on after the host");
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<ApiServer> for Uri {
    fn from(server: ApiServer) -> Self {
        server.0
    }
}
