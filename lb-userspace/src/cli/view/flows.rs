//! `xvip get flows`: connections in the flow tables.

use std::net::SocketAddr;

use lb_common::flow::{Forward, HookClass};
use lb_common::lifetime::seen;
use lb_common::protocol;
use serde::Serialize;

use super::{Scope, words};
use crate::cli::output::{Column, Row};
use crate::snapshot::{Connection, Flow, Snapshot};

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// The protocol.
    pub protocol: String,
    /// Who opened it.
    pub client: SocketAddr,
    /// What it was opened to.
    pub frontend: SocketAddr,
    /// Where it goes.
    pub backend: SocketAddr,
    /// The client as the backend sees it.
    pub seen_as: SocketAddr,
    /// TCP: conntrack's words. Others: `REPLIED` or `UNREPLIED`.
    pub state: &'static str,
    /// Seconds since either direction was seen; absent before the settings are written.
    pub idle_seconds: Option<u32>,
    /// Whether packets would use it: not expired, its backend not dead.
    pub live: bool,
    /// `namespace/name:port`.
    pub service: String,
    /// The backend's index in map `backends`.
    pub backend_index: u32,
    /// How packets to the backend go on.
    pub forward: Direction,
    /// How answers go on; absent when the table lost that entry.
    pub reply: Option<Direction>,
}

/// How the packets of one direction are treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Direction {
    /// Where the entry acts: `uplink-ingress`, `pod-ingress`, `egress`.
    pub hook: &'static str,
    /// `stack`, `redirect` or `neighbour`.
    pub forward: &'static str,
    /// The device packets leave by; absent where the stack decides.
    pub device: Option<String>,
    /// The next hop's hardware address, where it is cached.
    pub next_hop: Option<String>,
    /// Source as it comes.
    pub source: SocketAddr,
    /// Destination as it comes.
    pub destination: SocketAddr,
    /// Source as it goes on.
    pub new_source: SocketAddr,
    /// Destination as it goes on.
    pub new_destination: SocketAddr,
}

/// The connections of a scope, by protocol, client and frontend; `dead` adds those no packet would use.
#[must_use]
pub fn rows(snapshot: &Snapshot, scope: &Scope, dead: bool) -> Vec<FlowRow> {
    let connections = snapshot.connections().into_iter();
    connections
        .filter(
            |connection| match snapshot.backends.get(&connection.forward.backend) {
                Some(backend) => scope.holds(snapshot, backend.service),
                None => *scope == Scope::All,
            },
        )
        .map(|connection| row(snapshot, &connection))
        .filter(|row| dead || row.live)
        .collect()
}

fn row(snapshot: &Snapshot, connection: &Connection) -> FlowRow {
    let Connection { forward, reply } = connection;
    let ages = [Some(forward), reply.as_ref()].into_iter().flatten();
    FlowRow {
        protocol: words::protocol(forward.key.proto),
        client: forward.key.src,
        frontend: forward.key.dst,
        backend: forward.rewritten.dst,
        seen_as: forward.rewritten.src,
        state: state(
            forward.key.proto,
            connection.client_seen(),
            connection.backend_seen(),
        ),
        idle_seconds: ages.filter_map(|flow| snapshot.seconds_since(flow.last)).min(),
        live: snapshot.is_live(forward),
        service: match snapshot.backends.get(&forward.backend) {
            Some(backend) => snapshot.service_name(backend.service),
            None => "-".to_owned(),
        },
        backend_index: forward.backend,
        forward: direction(snapshot, forward),
        reply: reply.as_ref().map(|reply| direction(snapshot, reply)),
    }
}

fn direction(snapshot: &Snapshot, flow: &Flow) -> Direction {
    let cached = matches!(flow.forward, Forward::Redirect);
    Direction {
        hook: hook(flow.class),
        forward: forward(flow.forward),
        device: (flow.ifindex != 0).then(|| snapshot.device_name(flow.ifindex)),
        next_hop: cached.then(|| words::mac(flow.next_hop)),
        source: flow.key.src,
        destination: flow.key.dst,
        new_source: flow.rewritten.src,
        new_destination: flow.rewritten.dst,
    }
}

pub(super) fn hook(class: HookClass) -> &'static str {
    match class {
        HookClass::UplinkIngress => "uplink-ingress",
        HookClass::PodIngress => "pod-ingress",
        HookClass::Egress => "egress",
    }
}

pub(super) fn forward(forward: Forward) -> &'static str {
    match forward {
        Forward::Stack => "stack",
        Forward::Redirect => "redirect",
        Forward::Neighbour => "neighbour",
        Forward::Receive => "receive",
    }
}

/// The state in the words of the kernel's conntrack, as far as the flags seen tell.
fn state(proto: u8, client: u8, backend: u8) -> &'static str {
    let (both, either) = (client & backend, client | backend);
    if proto != protocol::TCP {
        return if both & seen::OPEN != 0 {
            "REPLIED"
        } else {
            "UNREPLIED"
        };
    }
    if either & seen::RST != 0 {
        "CLOSE"
    } else if both & seen::FIN != 0 {
        "TIME_WAIT"
    } else if either & seen::FIN != 0 {
        "FIN_WAIT"
    } else if both & seen::OPEN == 0 {
        "SYN_SENT"
    } else if client & seen::ACK == 0 {
        "SYN_RECV"
    } else {
        "ESTABLISHED"
    }
}

impl Row for FlowRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("PROTO"),
        Column::new("CLIENT"),
        Column::new("FRONTEND"),
        Column::new("BACKEND"),
        Column::new("SEEN AS"),
        Column::new("STATE"),
        Column::new("IDLE"),
        Column::new("FORWARD"),
        Column::new("DEVICE"),
        Column::new("SERVICE"),
        Column::wide("HOOK"),
        Column::wide("REPLY HOOK"),
        Column::wide("REPLY FORWARD"),
        Column::wide("REPLY DEVICE"),
        Column::wide("NEXT HOP"),
        Column::wide("INDEX"),
        Column::wide("LIVE"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        let none = || "-".to_owned();
        let reply = |text: fn(&Direction) -> String| self.reply.as_ref().map_or_else(none, text);
        let device = |direction: &Direction| direction.device.clone().unwrap_or_else(|| "-".to_owned());
        vec![vec![
            self.protocol.clone(),
            self.client.to_string(),
            self.frontend.to_string(),
            self.backend.to_string(),
            if self.seen_as == self.client {
                "itself".to_owned()
            } else {
                self.seen_as.to_string()
            },
            self.state.to_owned(),
            self.idle_seconds.map_or_else(none, words::seconds),
            self.forward.forward.to_owned(),
            device(&self.forward),
            self.service.clone(),
            self.forward.hook.to_owned(),
            reply(|direction| direction.hook.to_owned()),
            reply(|direction| direction.forward.to_owned()),
            reply(device),
            self.forward.next_hop.clone().unwrap_or_else(none),
            self.backend_index.to_string(),
            if self.live { "yes" } else { "no" }.to_owned(),
        ]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_what_each_side_showed() {
        use lb_common::protocol::{TCP, UDP};
        let (open, ack, fin, rst) = (seen::OPEN, seen::ACK, seen::FIN, seen::RST);
        for (proto, client, backend, expected) in [
            (TCP, open, 0, "SYN_SENT"),
            (TCP, open, open, "SYN_RECV"),
            (TCP, open | ack, open, "ESTABLISHED"),
            (TCP, open | ack, open | ack, "ESTABLISHED"),
            (TCP, open | ack | fin, open | ack, "FIN_WAIT"),
            (TCP, open | ack, open | ack | fin, "FIN_WAIT"),
            (TCP, open | ack | fin, open | ack | fin, "TIME_WAIT"),
            (TCP, open, rst, "CLOSE"),
            (UDP, open, 0, "UNREPLIED"),
            (UDP, open, open, "REPLIED"),
        ] {
            assert_eq!(
                state(proto, client, backend),
                expected,
                "{proto} {client:#b} {backend:#b}"
            );
        }
    }
}
