//! The cluster as a tree of text.
//!
//! Owns: the drawing, pure. Must not know: how anything is made.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::plan::PodPlan;
use super::probe::{World, protocol_word};
use super::slices::{node_name, zone};

/// Draws the client, the nodes and their pods.
pub(super) fn draw(world: &World, pods: &[PodPlan]) -> String {
    let mut text = format!("client0  {}\n  │ eth0\n", pair(world.client));
    let last_node = world.nodes.len().saturating_sub(1);
    let widest = pods
        .iter()
        .map(|pod| pod.name.len())
        .max()
        .unwrap_or_default()
        .max(8);
    text.push_str("══╪══ the wire ══\n");
    for (index, (node, addresses)) in (0..).zip(&world.nodes).enumerate() {
        let (branch, rail) = if index == last_node {
            ("└", " ")
        } else {
            ("├", "│")
        };
        let _ = writeln!(
            text,
            "  {branch}─ eth0 {}  {}  {}  xvip: XDP on eth0, tc on pods' devices",
            node_name(node),
            pair(*addresses),
            zone(node)
        );
        let mut lines: Vec<_> = pods
            .iter()
            .filter(|pod| pod.node == node)
            .map(|pod| {
                let ports: Vec<_> = pod
                    .serves
                    .iter()
                    .map(|(protocol, port)| format!("{port}/{}", protocol_word(*protocol)))
                    .collect();
                format!(
                    "{:widest$}  {}  {}",
                    pod.name,
                    pair(pod.addresses()),
                    ports.join(" ")
                )
            })
            .collect();
        lines.push(format!(
            "{:widest$}  {}  calls the Services",
            format!("caller-{node}"),
            pair(world.callers[usize::from(node)])
        ));
        let last = lines.len() - 1;
        for (index, line) in lines.iter().enumerate() {
            let branch = if index == last { "└" } else { "├" };
            let _ = writeln!(text, "  {rail}   {branch}─ {}", line.trim_end());
        }
    }
    text
}

fn pair(addresses: [IpAddr; 2]) -> String {
    format!("{:<12} {:<18}", addresses[0], addresses[1])
}
