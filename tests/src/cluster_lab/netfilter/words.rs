//! What rules are made of: expressions, which work on registers, and verdicts.
//!
//! A rule's value is in [`VALUE`] and behind; a comparison ends the rule for packets it does not hold for.
//!
//! Must not know: tables and chains.

use super::netlink::{attribute, nested, number, text};

/// The first register of four bytes, NFT_REG32_00.
const VALUE: u32 = 8;
/// NFT_REG_VERDICT
const VERDICT: u32 = 0;

/// NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// NFT_META_MARK, NFT_META_L4PROTO
const MARK: u32 = 3;
const L4PROTO: u32 = 16;
/// NFT_CT_STATE
const CT_STATE: u32 = 0;
/// NFT_NG_RANDOM
const RANDOM: u32 = 1;
/// NFT_NAT_DNAT
const DNAT: u32 = 1;

/// Bytes of the network header, into the register that many words behind the first.
pub(super) fn network(offset: u32, length: u32, word: u32) -> Vec<u8> {
    payload(NETWORK, offset, length, word)
}

/// The destination port, likewise.
pub(super) fn destination_port(word: u32) -> Vec<u8> {
    payload(TRANSPORT, 2, 2, word)
}

fn payload(base: u32, offset: u32, length: u32, word: u32) -> Vec<u8> {
    let load = [
        number(1, VALUE + word),
        number(2, base),
        number(3, offset),
        number(4, length),
    ];
    expression("payload", &load.concat())
}

/// The transport protocol, likewise.
pub(super) fn transport_protocol(word: u32) -> Vec<u8> {
    expression("meta", &[number(1, VALUE + word), number(2, L4PROTO)].concat())
}

/// The packet's mark.
pub(super) fn mark() -> Vec<u8> {
    expression("meta", &[number(1, VALUE), number(2, MARK)].concat())
}

/// Makes the value the packet's mark.
pub(super) fn set_mark() -> Vec<u8> {
    expression("meta", &[number(2, MARK), number(3, VALUE)].concat())
}

/// What conntrack says about the packet, as a bit.
pub(super) fn conntrack_state() -> Vec<u8> {
    expression("ct", &[number(2, CT_STATE), number(1, VALUE)].concat())
}

/// A random number below a limit.
pub(super) fn random(limit: u32) -> Vec<u8> {
    expression(
        "numgen",
        &[number(1, VALUE), number(2, limit), number(3, RANDOM)].concat(),
    )
}

/// Keeps these bits of the value, and then turns those over.
pub(super) fn masked(mask: u32, turned: u32) -> Vec<u8> {
    let words = [
        number(1, VALUE),
        number(2, VALUE),
        number(3, 4),
        nested(4, &attribute(1, &mask.to_ne_bytes())),
        nested(5, &attribute(1, &turned.to_ne_bytes())),
    ];
    expression("bitwise", &words.concat())
}

/// Goes where a map says for the value.
pub(super) fn look_up(map: &str) -> Vec<u8> {
    expression(
        "lookup",
        &[text(1, map), number(2, VALUE), number(3, VERDICT)].concat(),
    )
}

/// An address and a port to send to instead.
pub(super) fn dnat(family: u32, address: &[u8], port: u16) -> Vec<u8> {
    let port_word = VALUE + 4;
    let nat = [
        number(1, DNAT),
        number(2, family),
        number(3, VALUE),
        number(5, port_word),
    ];
    [
        immediate(VALUE, &nested(2, &attribute(1, address))),
        immediate(port_word, &nested(2, &attribute(1, &port.to_be_bytes()))),
        expression("nat", &nat.concat()),
    ]
    .concat()
}

/// Sends from the node's address.
pub(super) fn masquerade() -> Vec<u8> {
    expression("masq", &[])
}

/// What has to hold for the rule to go on.
pub(super) mod compare {
    use super::{VALUE, attribute, expression, nested, number};

    pub(in super::super) fn equals(value: &[u8]) -> Vec<u8> {
        compare(0, value)
    }

    pub(in super::super) fn differs(value: &[u8]) -> Vec<u8> {
        compare(1, value)
    }

    fn compare(operation: u32, value: &[u8]) -> Vec<u8> {
        let words = [
            number(1, VALUE),
            number(2, operation),
            nested(3, &attribute(1, value)),
        ];
        expression("cmp", &words.concat())
    }
}

/// Where the packet goes.
pub(super) mod verdict {
    use super::{VERDICT, immediate, nested, number, text};

    /// NF_DROP
    const DROP: i32 = 0;
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    const RETURN: i32 = -5;

    pub(in super::super) fn drop() -> Vec<u8> {
        immediate(VERDICT, &data(2, DROP, None))
    }

    pub(in super::super) fn jump(chain: &str) -> Vec<u8> {
        immediate(VERDICT, &data(2, JUMP, Some(chain)))
    }

    pub(in super::super) fn goto(chain: &str) -> Vec<u8> {
        immediate(VERDICT, &goto_data(2, chain))
    }

    pub(in super::super) fn leave() -> Vec<u8> {
        immediate(VERDICT, &data(2, RETURN, None))
    }

    /// A verdict as a map's or an expression's data.
    pub(in super::super) fn goto_data(kind: u16, chain: &str) -> Vec<u8> {
        data(kind, GOTO, Some(chain))
    }

    fn data(kind: u16, code: i32, chain: Option<&str>) -> Vec<u8> {
        let chain = chain.map(|chain| text(2, chain)).unwrap_or_default();
        nested(
            kind,
            &nested(2, &[number(1, code.cast_unsigned()), chain].concat()),
        )
    }
}

fn immediate(register: u32, data: &[u8]) -> Vec<u8> {
    expression("immediate", &[number(1, register), data.to_vec()].concat())
}

/// An element of a rule's list.
fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)].concat())
}
