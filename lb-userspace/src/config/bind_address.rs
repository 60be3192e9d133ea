//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// `IP:PORT`, or nothing: the server is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(Option<SocketAddr>);

impl BindAddress {
    /// The address, unless the server is off.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl From<SocketAddr> for BindAddress {
    fn from(address: SocketAddr) -> Self {
        Self(Some(address))
    }
}

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text
            .parse::<SocketAddr>()
            .ok()
            .filter(|address| address.port() != 0);
        address.map(Self::from).ok_or_else(|| {
            format!("{text:?} is no address to listen at: IP:PORT is wanted, as in 0.0.0.0:10256 or [::]:10256, or nothing")
        })
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_and_a_port_or_nothing() {
        for text in ["0.0.0.0:10256", "[::]:1", "[2001:db8::1]:65535", ""] {
            let parsed = text.parse::<BindAddress>();
            assert_eq!(parsed.map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "10256",
            ":10256",
            "0.0.0.0",
            "0.0.0.0:0",
            "localhost:1",
            "::1:1",
            "1.2.3.4:65536",
        ] {
            assert!(text.parse::<BindAddress>().is_err(), "{text}");
        }
    }
}
