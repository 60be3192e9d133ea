//! Transactions on one table, as netlink messages (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Must not know: what rules are for.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use super::words::verdict;
use crate::netns::NsHandle;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// NFNL_SUBSYS_NFTABLES, in the upper byte of a message's type
const NFTABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = NFTABLES;
const DELETE_TABLE: u16 = NFTABLES | 2;
const NEW_CHAIN: u16 = NFTABLES | 3;
const NEW_RULE: u16 = NFTABLES | 6;
const NEW_SET: u16 = NFTABLES | 9;
const NEW_SET_ELEMENTS: u16 = NFTABLES | 12;
/// NLM_F_REQUEST
const REQUEST: u16 = 0x1;
/// NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
const CREATE: u16 = REQUEST | 0x4 | 0x400;
/// NLM_F_APPEND
const APPEND: u16 = 0x800;
/// NLA_F_NESTED
const NESTED: u16 = 0x8000;
/// NFT_SET_MAP
const MAP: u32 = 0x8;
/// NFT_DATA_VERDICT
const TO_VERDICTS: u32 = 0xffff_ff00;

/// Whose packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// NFPROTO_INET
    Both = 1,
    /// NFPROTO_IPV4
    V4 = 2,
    /// NFPROTO_IPV6
    V6 = 10,
}

/// Changes of one table, carried out together or not at all.
pub(super) struct Transaction {
    family: Family,
    table: &'static str,
    messages: Vec<Vec<u8>>,
    maps: u32,
}

impl Transaction {
    pub(super) fn new(family: Family, table: &'static str) -> Self {
        Self {
            family,
            table,
            messages: Vec::new(),
            maps: 0,
        }
    }

    pub(super) fn add_table(&mut self) {
        self.push(NEW_TABLE, CREATE, &text(1, self.table));
    }

    /// With all that is in it.
    pub(super) fn delete_table(&mut self) {
        self.push(DELETE_TABLE, REQUEST | 0x4, &text(1, self.table));
    }

    /// A chain that packets come to by a hook of the kernel.
    pub(super) fn add_base_chain(&mut self, name: &str, kind: &str, hook: u32, priority: i32) {
        let hook = nested(
            4,
            &[number(1, hook), number(2, priority.cast_unsigned())].concat(),
        );
        self.push(
            NEW_CHAIN,
            CREATE,
            &[text(1, self.table), text(3, name), hook, text(7, kind)].concat(),
        );
    }

    /// A chain that rules send packets to.
    pub(super) fn add_chain(&mut self, name: &str) {
        self.push(NEW_CHAIN, CREATE, &[text(1, self.table), text(3, name)].concat());
    }

    /// A map from keys of a length to chains that packets go to.
    pub(super) fn add_verdict_map(&mut self, name: &str, elements: &[(Vec<u8>, String)]) {
        let length = elements.first().map_or(4, |(key, _)| key.len());
        self.maps += 1;
        let map = [
            text(1, self.table),
            text(2, name),
            number(3, MAP),
            number(5, u32::try_from(length).expect("keys are short")),
            number(6, TO_VERDICTS),
            number(10, self.maps),
        ];
        self.push(NEW_SET, CREATE, &map.concat());
        let elements: Vec<_> = elements
            .iter()
            .map(|(key, chain)| {
                nested(
                    1,
                    &[nested(1, &attribute(1, key)), verdict::goto_data(2, chain)].concat(),
                )
            })
            .collect();
        let elements = [text(1, self.table), text(2, name), nested(3, &elements.concat())];
        self.push(NEW_SET_ELEMENTS, CREATE, &elements.concat());
    }

    /// A rule at the end of a chain: its [`words`](super::words).
    pub(super) fn add_rule(&mut self, chain: &str, words: &[Vec<u8>]) {
        self.push(
            NEW_RULE,
            CREATE | APPEND,
            &[text(1, self.table), text(2, chain), nested(4, &words.concat())].concat(),
        );
    }

    /// Carries it out in a namespace.
    pub(super) fn commit(self, ns: &NsHandle) -> Result<()> {
        let expected = self.messages.len();
        let bytes = [
            message(NFNL_MSG_BATCH_BEGIN, REQUEST, 0, NFTABLES >> 8, &[]),
            self.messages.concat(),
            message(NFNL_MSG_BATCH_END, REQUEST, 0, NFTABLES >> 8, &[]),
        ]
        .concat();
        ns.run(move || carry_out(&bytes, expected))
            .with_context(|| format!("nf_tables rules in {}", ns.name()))
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &[u8]) {
        self.messages
            .push(message(kind, flags, self.family as u8, 0, attributes));
    }
}

pub(super) fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, content)
}

pub(super) fn text(kind: u16, content: &str) -> Vec<u8> {
    attribute(kind, &[content.as_bytes(), b"\0"].concat())
}

/// nf_tables has its numbers in network order.
pub(super) fn number(kind: u16, content: u32) -> Vec<u8> {
    attribute(kind, &content.to_be_bytes())
}

pub(super) fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
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
