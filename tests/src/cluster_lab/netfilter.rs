//! The rules a cluster's nodes have beside a Service proxy, as nf_tables rules: forwarding drops what conntrack calls invalid,
//! and what pods send to the outside is masqueraded.
//!
//! Written in netlink's own words (include/uapi/linux/netfilter/nf_tables.h), so that no tool has to be installed.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::netns::NsHandle;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// NFNL_SUBSYS_NFTABLES, in the upper byte of a message's type
const NFTABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = NFTABLES;
const NEW_CHAIN: u16 = NFTABLES | 3;
const NEW_RULE: u16 = NFTABLES | 6;
/// NFPROTO_INET: both families
const INET: u8 = 1;
/// NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
const CREATE: u16 = 0x1 | 0x4 | 0x400;
/// NLM_F_APPEND
const APPEND: u16 = 0x800;
/// NLA_F_NESTED
const NESTED: u16 = 0x8000;

/// NF_INET_FORWARD, NF_INET_POST_ROUTING
const FORWARD: u32 = 2;
const POST_ROUTING: u32 = 4;
/// NFT_REG_1 and NFT_REG_VERDICT
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
/// NFT_CT_STATE and its bit for "invalid"
const CT_STATE: u32 = 0;
const INVALID: u32 = 1;
/// NF_DROP
const DROP: u32 = 0;

/// Puts the rules on a node.
///
/// # Errors
/// When the kernel has no nf_tables or refuses a rule.
pub fn forward_and_masquerade(node: &NsHandle) -> Result<()> {
    let transaction = [
        message(NFNL_MSG_BATCH_BEGIN, 0x1, 0, NFTABLES >> 8, &[]),
        message(NEW_TABLE, CREATE, INET, 0, &text(1, "lab")),
        message(
            NEW_CHAIN,
            CREATE,
            INET,
            0,
            &chain("forward", "filter", FORWARD, 0),
        ),
        message(
            NEW_CHAIN,
            CREATE,
            INET,
            0,
            &chain("postrouting", "nat", POST_ROUTING, 100),
        ),
        message(
            NEW_RULE,
            CREATE | APPEND,
            INET,
            0,
            &rule("forward", &drop_invalid()),
        ),
        message(
            NEW_RULE,
            CREATE | APPEND,
            INET,
            0,
            &rule("postrouting", &expression("masq", &[])),
        ),
        message(NFNL_MSG_BATCH_END, 0x1, 0, NFTABLES >> 8, &[]),
    ];
    let expected = transaction.len() - 2;
    let bytes = transaction.concat();
    node.run(move || carry_out(&bytes, expected))
        .with_context(|| format!("nf_tables rules in {}", node.name()))
}

/// `ct state invalid drop`
fn drop_invalid() -> Vec<u8> {
    let load = [number(2, CT_STATE), number(1, REGISTER)].concat();
    let mask = [
        number(1, REGISTER),
        number(2, REGISTER),
        number(3, 4),
        nested(4, &attribute(1, &INVALID.to_ne_bytes())),
        nested(5, &attribute(1, &0_u32.to_ne_bytes())),
    ]
    .concat();
    // NFT_CMP_NEQ 0
    let differs = [
        number(1, REGISTER),
        number(2, 1),
        nested(3, &attribute(1, &0_u32.to_ne_bytes())),
    ]
    .concat();
    let verdict = [number(1, VERDICT), nested(2, &nested(2, &number(1, DROP)))].concat();
    [
        expression("ct", &load),
        expression("bitwise", &mask),
        expression("cmp", &differs),
        expression("immediate", &verdict),
    ]
    .concat()
}

fn chain(name: &str, kind: &str, hook: u32, priority: u32) -> Vec<u8> {
    [
        text(1, "lab"),
        text(3, name),
        nested(4, &[number(1, hook), number(2, priority)].concat()),
        text(7, kind),
    ]
    .concat()
}

fn rule(chain: &str, expressions: &[u8]) -> Vec<u8> {
    [text(1, "lab"), text(2, chain), nested(4, expressions)].concat()
}

/// An element of a rule's list.
fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)].concat())
}

fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, content)
}

fn text(kind: u16, content: &str) -> Vec<u8> {
    attribute(kind, &[content.as_bytes(), b"\0"].concat())
}

/// nf_tables has its numbers in network order.
fn number(kind: u16, content: u32) -> Vec<u8> {
    attribute(kind, &content.to_be_bytes())
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 4).expect("rules are short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A netlink header, a `struct nfgenmsg` and attributes.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + 4 + attributes.len()).expect("rules are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(attributes);
    bytes
}

/// Sends a transaction and waits for the kernel's answer to each of its messages.
fn carry_out(transaction: &[u8], answers: usize) -> Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    sendto(
        netlink.as_raw_fd(),
        transaction,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut buffer = vec![0; 1 << 16];
    let mut acknowledged = 0;
    while acknowledged < answers {
        // The kernel has answered by the time the transaction is sent: an empty queue is an answer that is missing.
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)
            .with_context(|| format!("answer {} of {answers}", acknowledged + 1))?;
        let mut rest = &buffer[..length];
        while rest.len() >= 20 {
            let word = |at: usize| <[u8; 4]>::try_from(&rest[at..at + 4]).expect("four bytes");
            let (size, error) = (u32::from_ne_bytes(word(0)) as usize, i32::from_ne_bytes(word(16)));
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            if i32::from(kind) == libc::NLMSG_ERROR {
                if error != 0 {
                    let error = io::Error::from_raw_os_error(-error);
                    return Err(error).with_context(|| format!("message {}", acknowledged + 1));
                }
                acknowledged += 1;
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(())
}
