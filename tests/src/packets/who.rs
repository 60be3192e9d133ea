//! Who takes part in a packet test: by role, so that one description serves both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// Somebody with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A client on the first uplink's wire.
    Client,
    /// Clients by number, on the same wire.
    Crowd(u8),
    /// Somebody on the wire who is nobody's client or backend.
    Stranger,
    /// A multicast group: nobody who could be answered.
    Multicast,
    /// A load-balancer VIP.
    Vip,
    /// Another.
    OtherVip,
    /// A ClusterIP.
    ClusterIp,
    /// An address of the range ClusterIPs are taken from, which nobody has.
    Unserved,
    /// The node, on its first uplink.
    Node,
    /// The node, on its second uplink.
    NodeSecond,
    /// A pod of this node.
    Pod,
    /// Another pod of this node.
    OtherPod,
    /// A pod of a node on the first uplink's wire.
    RemotePod,
    /// Another pod there.
    OtherRemotePod,
    /// A pod of a node on the second uplink's wire.
    FarPod,
    /// A pod of a node whose hardware address is not known.
    LostPod,
    /// A pod to which there is no route.
    UnroutedPod,
}

impl Who {
    /// The address in a family.
    #[must_use]
    pub fn ip(self, family: Family) -> IpAddr {
        let (v4, net, host): ([u8; 4], [u16; 4], u16) = match self {
            Self::Client => ([192, 0, 2, 100], WIRE, 100),
            Self::Crowd(n) => ([192, 0, 3, n], [0x2001, 0xdb8, 0, 1], 0x300 + u16::from(n)),
            Self::Stranger => ([192, 0, 2, 200], WIRE, 200),
            Self::Multicast => ([224, 0, 0, 1], [0xff02, 0, 0, 0], 1),
            Self::Vip => ([198, 51, 100, 1], [0x2001, 0xdb8, 0, 2], 1),
            Self::OtherVip => ([198, 51, 100, 2], [0x2001, 0xdb8, 0, 2], 2),
            Self::ClusterIp => ([10, 96, 0, 10], [0xfd00, 0x96, 0, 0], 10),
            Self::Unserved => ([10, 96, 0, 99], [0xfd00, 0x96, 0, 0], 99),
            Self::Node => ([192, 0, 2, 10], WIRE, 10),
            Self::NodeSecond => ([203, 0, 113, 10], SECOND_WIRE, 10),
            Self::Pod => ([10, 244, 0, 2], [0xfd00, 0x10, 0x244, 0], 2),
            Self::OtherPod => ([10, 244, 0, 3], [0xfd00, 0x10, 0x244, 0], 3),
            Self::RemotePod => ([10, 244, 1, 2], [0xfd00, 0x10, 0x244, 1], 2),
            Self::OtherRemotePod => ([10, 244, 1, 3], [0xfd00, 0x10, 0x244, 1], 3),
            Self::FarPod => ([10, 244, 3, 2], [0xfd00, 0x10, 0x244, 3], 2),
            Self::LostPod => ([10, 244, 2, 2], [0xfd00, 0x10, 0x244, 2], 2),
            Self::UnroutedPod => ([10, 245, 0, 2], [0xfd00, 0x10, 0x245, 0], 2),
        };
        match family {
            Family::V4 => Ipv4Addr::from(v4).into(),
            Family::V6 => {
                let [a, b, c, d] = net;
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, host).into()
            }
        }
    }
}

const WIRE: [u16; 4] = [0x2001, 0xdb8, 0, 1];
const SECOND_WIRE: [u16; 4] = [0x2001, 0xdb8, 0, 3];

/// Somebody with a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    /// The first uplink of the node.
    Uplink,
    /// The second uplink.
    Second,
    /// The node's end of the pod's device.
    PodDevice,
    /// The pod's end.
    Pod,
    /// A client.
    Client,
    /// The node on the first uplink's wire that has remote pods.
    RemoteNode,
    /// The node on the second uplink's wire.
    FarNode,
    /// Somebody else on the wire.
    Stranger,
    /// The loopback device: no address at all.
    Loopback,
}

impl Mac {
    /// The six bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        let last = match self {
            Self::Uplink => 0x10,
            Self::Second => 0x11,
            Self::PodDevice => 0x12,
            Self::Pod => 0x20,
            Self::Client => 0x64,
            Self::RemoteNode => 0x30,
            Self::FarNode => 0x31,
            Self::Stranger => 0xc8,
            Self::Loopback => return [0; 6],
        };
        [0x02, 0x78, 0x76, 0x6c, 0x00, last]
    }
}
