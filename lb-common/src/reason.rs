//! Why a packet was treated as it was. Counted in map `reasons` (a per-CPU array), shown by the CLI, exported as metrics.

/// What becomes of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Left untouched, for whoever comes next.
    Pass,
    /// Rewritten and sent on.
    Forward,
    /// Answered with RST or ICMP.
    Reject,
    /// Dropped.
    Drop,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $disposition:ident;)+) => {
        /// A reason. Numbers are stable and never used again.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Reason {
            /// All of them, in order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name in the CLI and in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// What becomes of the packet.
            #[inline(always)]
            #[must_use]
            pub const fn disposition(self) -> Disposition {
                match self { $(Self::$name => Disposition::$disposition,)+ }
            }
        }
    };
}

reasons! {
    /// Not addressed to a frontend and not part of a flow (not counted: it is most of a host's traffic).
    NotOurs = 0, "not-ours", Pass;
    /// Neither IPv4 nor IPv6, or not addressed to this device's MAC.
    NotForUs = 1, "not-for-us", Pass;
    /// Headers that contradict themselves or end early.
    Malformed = 2, "malformed", Pass;
    /// A fragment of a datagram.
    Fragment = 3, "fragment", Pass;
    /// A protocol other than TCP and UDP.
    OtherProtocol = 4, "other-protocol", Pass;
    /// More IPv6 extension headers than are followed.
    ExtensionHeaders = 5, "extension-headers", Pass;
    /// A packet of a known flow, seen at a hook where the flow's entry does not act.
    OtherHook = 6, "other-hook", Pass;
    /// XDP leaves the packet to tc on the same device.
    LeftToTc = 7, "left-to-tc", Pass;
    /// TCP without SYN that belongs to no flow (S44).
    MidFlow = 8, "mid-flow", Pass;
    /// A nodePort number that belongs to a connection of a host socket (S19).
    HostSocket = 9, "host-socket", Pass;
    /// TTL or hop limit is used up: the stack answers.
    TtlExpired = 10, "ttl-expired", Pass;
    /// A stage of the program is not loaded.
    StageMissing = 11, "stage-missing", Pass;
    /// Rewritten and handed to the stack.
    ToStack = 12, "to-stack", Forward;
    /// Rewritten and sent out of a device.
    Sent = 13, "sent", Forward;
    /// Rewritten and sent out of a device whose neighbour the kernel resolves.
    SentNeighbour = 14, "sent-neighbour", Forward;
    /// No usable endpoint anywhere (S21), or a port the address does not have (S24).
    Rejected = 15, "rejected", Reject;
    /// A segment of a connection that nobody serves: its endpoint is gone (S37), or no flow knows it where it leaves the node (S44).
    EndpointGone = 16, "endpoint-gone", Reject;
    /// A Local policy, and endpoints only elsewhere (S22).
    NoLocalEndpoints = 17, "no-local-endpoints", Drop;
    /// A reject was due, and the rate is used up.
    RejectRate = 18, "reject-rate", Drop;
    /// The entry was being written during every attempt to read it, or its bucket stayed locked.
    Busy = 19, "busy", Drop;
    /// No source port was free for a rewritten source (S19).
    PortsExhausted = 20, "ports-exhausted", Drop;
    /// No route to the backend, or no address to send from.
    NoRoute = 21, "no-route", Drop;
    /// Every backend chosen turned out dead.
    NoLiveBackend = 22, "no-live-backend", Drop;
    /// A reply from an endpoint that is gone.
    StaleReply = 23, "stale-reply", Drop;
    /// The kernel refused to change the packet.
    RewriteFailed = 24, "rewrite-failed", Drop;
    /// A packet that cannot be answered, to a frontend without endpoints (a RST, an ICMP error, a multicast source).
    RejectedSilently = 25, "rejected-silently", Drop;
    /// A live flow gave way: both its buckets were full (counted, not a verdict).
    Evicted = 26, "evicted", Pass;
    /// A frame with a VLAN tag: left to the VLAN's device.
    Vlan = 27, "vlan", Pass;
    /// A client outside the source ranges of a load-balancer address (S23).
    SourceRange = 28, "source-range", Drop;
    /// A ClusterIP and port on which a socket of the host listens at the very address (S45).
    HostListener = 29, "host-listener", Pass;
    /// An address of the service range that nobody serves, on its way out of the node (S24).
    Unserved = 30, "unserved", Drop;
}

/// Entries of map `reasons`; room for those to come.
pub const MAX_REASONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_fit_the_map() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
        assert!(Reason::ALL.len() <= MAX_REASONS);
    }
}
