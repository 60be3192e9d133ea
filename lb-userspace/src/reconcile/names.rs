//! Service ports as map `names` writes them.

use lb_common::name::{Name, TEXT_LEN};
use lb_common::protocol;
use thiserror::Error;

use crate::model::{IpFamily, Protocol, ServiceKey};
use crate::plan::ServicePortKey;

/// A service port whose name has no room in the map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the name of {0} is longer than {TEXT_LEN} bytes")]
pub struct NameTooLong(pub ServicePortKey);

/// The map's entry for a service port.
///
/// # Errors
/// The name does not fit; names that the API server accepts do.
pub fn to_name(key: &ServicePortKey) -> Result<Name, NameTooLong> {
    let mut line = key.service.to_string();
    if !key.port_name.is_empty() {
        line.push(':');
        line.push_str(&key.port_name);
    }
    let mut text = [0; TEXT_LEN];
    let room = text
        .get_mut(..line.len())
        .ok_or_else(|| NameTooLong(key.clone()))?;
    room.copy_from_slice(line.as_bytes());
    Ok(Name {
        text,
        port: key.port.to_be(),
        proto: match key.protocol {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
            Protocol::Sctp => protocol::SCTP,
        },
        family: match key.family {
            IpFamily::V4 => 4,
            IpFamily::V6 => 6,
        },
    })
}

/// The service port of a map's entry, or `None` for one this program cannot have written.
#[must_use]
pub fn from_name(name: &Name) -> Option<ServicePortKey> {
    let end = name.text.iter().position(|&byte| byte == 0).unwrap_or(TEXT_LEN);
    let line = std::str::from_utf8(&name.text[..end]).ok()?;
    let (namespace, rest) = line.split_once('/')?;
    let (service, port_name) = rest.split_once(':').unwrap_or((rest, ""));
    Some(ServicePortKey {
        service: ServiceKey::new(namespace, service),
        port_name: port_name.to_owned(),
        protocol: match name.proto {
            protocol::TCP => Protocol::Tcp,
            protocol::UDP => Protocol::Udp,
            protocol::SCTP => Protocol::Sctp,
            _ => return None,
        },
        port: u16::from_be(name.port),
        family: match name.family {
            4 => IpFamily::V4,
            6 => IpFamily::V6,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str, port_name: &str) -> ServicePortKey {
        ServicePortKey {
            service: ServiceKey::new(namespace, name),
            port_name: port_name.to_owned(),
            protocol: Protocol::Udp,
            port: 53,
            family: IpFamily::V6,
        }
    }

    #[test]
    fn names_survive_the_way_through_the_map() {
        let longest = "x".repeat(63);
        for key in [
            key("kube-system", "kube-dns", "dns"),
            key("default", "web", ""),
            key(&longest, &longest, &longest),
        ] {
            assert_eq!(from_name(&to_name(&key).unwrap()), Some(key));
        }
    }

    #[test]
    fn a_name_without_room_is_refused_not_cut() {
        let key = key(&"n".repeat(200), "web", "");
        assert_eq!(to_name(&key).unwrap_err(), NameTooLong(key));
    }

    #[test]
    fn a_foreign_entry_is_no_name() {
        let mut name = to_name(&key("default", "web", "")).unwrap();
        name.family = 5;
        assert_eq!(from_name(&name), None);
        name.family = 4;
        name.text = [0xff; TEXT_LEN];
        assert_eq!(from_name(&name), None);
    }
}
