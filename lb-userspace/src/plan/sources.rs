//! Who may use a Service's load-balancer addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::IpFamily;

use super::ThisNode;

/// The networks of a family whose clients may use the load-balancer addresses `vips`; `None` where everybody may: the list
/// has no range of the family, or one that holds every address (S28).
///
/// A request of this node to a VIP that the node has as an address of its own comes from that VIP: where a range holds
/// an address of the node, the VIPs are sources too (S29).
pub(super) fn allowed_sources(
    ranges: &[IpNet],
    family: IpFamily,
    vips: &[IpAddr],
    node: &ThisNode,
) -> Option<BTreeSet<IpNet>> {
    let mut sources: BTreeSet<IpNet> = ranges
        .iter()
        .map(IpNet::trunc)
        .filter(|range| IpFamily::of_net(*range) == family)
        .collect();
    if sources.is_empty() || sources.iter().any(|range| range.prefix_len() == 0) {
        return None;
    }
    let holds_this_node = node
        .addresses
        .iter()
        .any(|address| sources.iter().any(|range| range.contains(address)));
    if holds_this_node {
        sources.extend(vips.iter().copied().map(IpNet::from));
    }
    Some(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Networks as texts.
    type Texts<'a> = &'a [&'a str];
    /// The ranges, and who is allowed by them in each family: `None` is everybody.
    type Row<'a> = (Texts<'a>, Option<Texts<'a>>, Option<Texts<'a>>);

    fn check(node: &[&str], rows: &[Row]) {
        let node = ThisNode {
            addresses: node.iter().map(|address| address.parse().unwrap()).collect(),
            ..ThisNode::default()
        };
        for (texts, v4, v6) in rows {
            let ranges: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
            for (family, vips, expected) in [
                (IpFamily::V4, ["198.51.100.5", "198.51.100.6"], v4),
                (IpFamily::V6, ["2001:db8:2::5", "2001:db8:2::6"], v6),
            ] {
                let vips = vips.map(|vip| vip.parse().unwrap());
                let allowed = allowed_sources(&ranges, family, &vips, &node);
                let shown =
                    allowed.map(|allowed| allowed.iter().map(ToString::to_string).collect::<Vec<_>>());
                let expected =
                    expected.map(|texts| texts.iter().map(ToString::to_string).collect::<Vec<_>>());
                assert_eq!(shown, expected, "{texts:?}, {family}");
            }
        }
    }

    #[test]
    fn s28_ranges_restrict_their_own_family_unless_one_of_it_holds_everybody() {
        check(
            &[],
            &[
                (&[], None, None),
                (&["203.0.113.0/24"], Some(&["203.0.113.0/24"]), None),
                (&["2001:db8::/32"], None, Some(&["2001:db8::/32"])),
                (&["10.0.0.0/8", "0.0.0.0/0"], None, None),
                (&["10.0.0.0/8", "::/0"], Some(&["10.0.0.0/8"]), None),
                (&["2001:db8::/32", "::/0"], None, None),
                (&["2001:db8::/32", "0.0.0.0/0"], None, Some(&["2001:db8::/32"])),
                (&["203.0.113.9/0"], None, None),
                (
                    &["10.0.0.0/8", "2001:db8::/32"],
                    Some(&["10.0.0.0/8"]),
                    Some(&["2001:db8::/32"]),
                ),
            ],
        );
    }

    #[test]
    fn s7_ranges_that_differ_in_host_bits_alone_are_one() {
        check(
            &[],
            &[(
                &["10.1.2.3/8", "10.0.0.0/8", "2001:db8::1/32"],
                Some(&["10.0.0.0/8"]),
                Some(&["2001:db8::/32"]),
            )],
        );
    }

    #[test]
    fn s29_vips_are_sources_where_a_range_holds_an_address_of_this_node() {
        check(
            &["172.18.0.2", "2001:db8::2"],
            &[
                (&["203.0.113.0/24"], Some(&["203.0.113.0/24"]), None),
                (
                    &["203.0.113.0/24", "172.18.0.0/16"],
                    Some(&[
                        "172.18.0.0/16",
                        "198.51.100.5/32",
                        "198.51.100.6/32",
                        "203.0.113.0/24",
                    ]),
                    None,
                ),
                (
                    &["203.0.113.0/24", "2001:db8::/64"],
                    Some(&["203.0.113.0/24"]),
                    Some(&["2001:db8::/64", "2001:db8:2::5/128", "2001:db8:2::6/128"]),
                ),
                (&["0.0.0.0/0"], None, None),
            ],
        );
    }
}
