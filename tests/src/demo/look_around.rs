//! What `--keep` prints: how to look at a cluster that was left standing, in lines to copy.
//!
//! Owns: the words, with the names of this lab. Must not know: how anything is made.

use anyhow::Result;

use super::cluster::Cluster;
use super::probe::{CallerId, Expect, Probe};
use crate::agent::{self, Source};
use crate::server::Protocol;

/// The instructions.
pub(super) fn text(cluster: &Cluster, probes: &[Probe]) -> Result<String> {
    let xvip = agent::binary()?;
    let xvip = xvip.display();
    let mut lines = vec![
        "It stands. In another terminal, as root:".to_owned(),
        String::new(),
    ];
    let mut say = |comment: &str, command: String| lines.push(format!("  {command}\n      # {comment}"));
    let client = cluster.topology.client().ns().name();
    let called = probes.iter().find(|probe| {
        probe.caller == CallerId::Client
            && probe.frontend.protocol == Protocol::Tcp
            && matches!(probe.expect, Expect::Answer { .. })
    });
    if let Some(probe) = called {
        let (ip, port) = (probe.frontend.to.ip(), probe.frontend.to.port());
        say(
            &format!(
                "call {} from the client; servers answer each line with one of JSON",
                probe.frontend.service_port()
            ),
            format!(
                "ip netns exec {client} bash -c 'exec 3<>/dev/tcp/{ip}/{port}; echo hello >&3; head -1 <&3'"
            ),
        );
    }
    // Inside the node's namespace, where the numbers of its devices mean something.
    for (node, agent) in cluster.topology.nodes().iter().zip(&cluster.agents) {
        let views: &[&str] = match node.index() {
            0 => &["services", "backends", "flows", "status"],
            _ => &["flows"],
        };
        for view in views {
            say(
                &format!("{}'s {view}, from its maps", node.name()),
                format!(
                    "ip netns exec {} {xvip} get {view} --bpffs {}",
                    node.ns().name(),
                    agent.bpffs().display()
                ),
            );
        }
    }
    say(
        "inside a node; all namespaces: ip netns list",
        format!("ip netns exec {} bash", cluster.topology.node(0).ns().name()),
    );
    match cluster.source() {
        Source::Directory(path) => say(
            "the agents follow this directory: edit a manifest and look again",
            format!("ls {}", path.display()),
        ),
        Source::Kube { kubeconfig } => say(
            "what the agents have from the API server",
            format!(
                "ip netns exec {} {xvip} check --source kube --kubeconfig {} --hostname-override node0",
                cluster.topology.node(0).ns().name(),
                kubeconfig.display()
            ),
        ),
    }
    lines.push(String::new());
    lines.push("Ctrl-C in this terminal tears it all down.".to_owned());
    lines.push(String::new());
    Ok(lines.join("\n"))
}
