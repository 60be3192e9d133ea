//! What an API server refuses, in its words.
//!
//! Owns: the rules that concern one object alone, on an object with its defaults. Must not know: ranges and
//! other objects; those rules are the allocator's.

mod endpoints;
mod names;
mod service;

use std::net::IpAddr;

pub(super) use endpoints::{endpoint_slice, endpoints};
pub(super) use service::service;

use crate::model::parse::{NOT_AN_ADDRESS, PORT_RANGE};
use crate::model::{IpFamily, Problem, parse_ip_sloppy};

/// An address field: old fields take leading zeros, but no blanks.
fn address(text: &str) -> Option<IpAddr> {
    parse_ip_sloppy(text).filter(|_| text.trim() == text)
}

/// An address that something outside the host can have.
fn ordinary_address(field: &str, text: &str, problems: &mut Vec<Problem>) {
    let Some(ip) = address(text) else {
        problems.push(Problem::invalid(field, text, NOT_AN_ADDRESS));
        return;
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    let why = if ip.is_unspecified() {
        format!("may not be unspecified ({ip})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if link_local_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return;
    };
    problems.push(Problem::invalid(field, text, &why));
}

fn family_named(text: &str) -> Option<IpFamily> {
    IpFamily::ALL
        .into_iter()
        .find(|family| family.to_string() == text)
}

fn port(field: &str, number: i32, problems: &mut Vec<Problem>) {
    if !(1..=65_535).contains(&number) {
        problems.push(Problem::invalid(field, number, PORT_RANGE));
    }
}

/// One of a closed set of values; absent is fine.
fn one_of(field: &str, value: Option<&str>, supported: &[&str], problems: &mut Vec<Problem>) {
    if let Some(value) = value
        && !supported.contains(&value)
    {
        problems.push(Problem::unsupported(field, value, supported));
    }
}
