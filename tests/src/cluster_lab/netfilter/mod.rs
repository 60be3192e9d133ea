//! nf_tables rules of nodes: those a cluster has beside its Service proxy, and those of the proxy that was there before.
//!
//! Written in netlink's own words, so that no tool has to be installed.

pub mod kube_proxy;
mod netlink;
mod words;

use anyhow::{Context, Result};

use self::netlink::{Family, Transaction};
use self::words::{compare, conntrack_state, masked, masquerade, verdict};
use crate::netns::NsHandle;

/// NF_INET_PRE_ROUTING, NF_INET_FORWARD, NF_INET_POST_ROUTING
const PRE_ROUTING: u32 = 0;
const FORWARD: u32 = 2;
const POST_ROUTING: u32 = 4;
/// The bit of conntrack's state "invalid".
const INVALID: u32 = 1;

/// Has a node drop what it forwards and conntrack calls invalid, and masquerade what pods send to the outside.
///
/// # Errors
/// When the kernel has no nf_tables or refuses a rule.
pub fn forward_and_masquerade(node: &NsHandle) -> Result<()> {
    let mut rules = Transaction::new(Family::Both, "lab");
    rules.add_table();
    rules.add_base_chain("forward", "filter", FORWARD, 0);
    rules.add_base_chain("postrouting", "nat", POST_ROUTING, 100);
    rules.add_rule("forward", &when_invalid(verdict::drop()));
    rules.add_rule("postrouting", &[masquerade()]);
    rules.commit(node).context("rules beside a Service proxy")
}

/// Has the kernel go on translating what it knows when a node's other nat chains are taken away. It takes both: a nat chain,
/// and a rule that asks conntrack.
///
/// # Errors
/// When the kernel has no nf_tables or refuses a rule.
pub fn keep_translating(node: &NsHandle) -> Result<()> {
    let mut rules = Transaction::new(Family::Both, "leaving-kube-proxy");
    rules.add_table();
    rules.add_base_chain("nat", "nat", PRE_ROUTING, -100);
    rules.add_rule("nat", &when_invalid(verdict::leave()));
    rules.commit(node).context("what keeps the kernel translating")
}

/// `ct state invalid` and a verdict.
fn when_invalid(verdict: Vec<u8>) -> [Vec<u8>; 4] {
    [
        conntrack_state(),
        masked(INVALID, 0),
        compare::differs(&0_u32.to_ne_bytes()),
        verdict,
    ]
}
