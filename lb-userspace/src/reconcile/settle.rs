//! The life of a backend: its flags, generation and epoch as its endpoint comes, changes and goes.

use lb_common::backend::{Backend, IN_CLUSTER_LIST, IN_LOCAL_LIST, LOCAL, TERMINATING};

use crate::model::Protocol;
use crate::plan::{EndpointState, PlannedBackend};

const LISTS: u8 = IN_CLUSTER_LIST | IN_LOCAL_LIST;

/// What the plan says of a backend's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// Its place in the lists, if it has one.
    pub(super) listed: Option<PlannedBackend>,
    /// Its state, if any slice names it.
    pub(super) endpoint: Option<EndpointState>,
    /// The protocol of its port.
    pub(super) protocol: Protocol,
    /// Whether a list of its port has an endpoint.
    pub(super) others_serve: bool,
}

/// The backend of an index that is taken, its address and owner being `new`'s: generation and epoch go on from where
/// the index was left, so that nothing remembered of its last owner is good again.
pub(super) fn taken(new: Backend, past: Option<&Backend>) -> Backend {
    let past = past.copied().unwrap_or_default();
    Backend {
        generation: next_even(past.generation),
        epoch: past.epoch,
        ..new
    }
}

/// What an index looks like when it is free.
pub(super) fn freed(backend: &Backend) -> Backend {
    Backend {
        generation: next_odd(backend.generation),
        epoch: backend.epoch.wrapping_add(1),
        ..Backend::default()
    }
}

/// A listed backend before the frontends are switched: alive, and in the old lists as well as the new, because both
/// have readers.
pub(super) fn before_switch(present: &Backend, listed: PlannedBackend) -> Backend {
    Backend {
        generation: next_even(present.generation),
        flags: (present.flags & !LOCAL) | flags(listed),
        ..*present
    }
}

/// A backend after the switch: in the new lists only, its epoch moved if it left one (S33), and dead when its flows
/// must not go on:
/// - UDP: it is in no list and not serving, and another endpoint is there to take them (S35);
/// - TCP, SCTP: its endpoint is gone, having been terminating (S37).
///
/// A backend that is dead stays so until it is listed again ([`before_switch`]).
pub(super) fn after_switch(present: &Backend, fate: &Fate) -> Backend {
    let kept = match (fate.listed, fate.endpoint) {
        (Some(listed), _) => flags(listed),
        (None, _) => present.flags & LOCAL,
    };
    let terminating = match fate.endpoint {
        Some(endpoint) => endpoint.terminating,
        None => present.flags & TERMINATING != 0,
    };
    let dead = fate.listed.is_none()
        && match fate.protocol {
            Protocol::Udp => fate.others_serve && !fate.endpoint.is_some_and(|endpoint| endpoint.serving),
            Protocol::Tcp | Protocol::Sctp => fate.endpoint.is_none() && terminating,
        };
    let mut after = out_of_lists(present);
    after.flags = kept | if terminating { TERMINATING } else { 0 };
    after.epoch = epoch(present, after.flags);
    if dead {
        after.generation = next_odd(present.generation);
    }
    after
}

/// A backend of a service port that exists no more: in no list, its flows living on.
pub(super) fn out_of_lists(present: &Backend) -> Backend {
    let flags = present.flags & !LISTS;
    Backend {
        flags,
        epoch: epoch(present, flags),
        ..*present
    }
}

/// Takes back a change of a backend that readers may have seen: never to a generation or epoch that was good before.
pub(super) fn taken_back(before: &Backend, now: &Backend) -> Backend {
    let alive = before.generation.is_multiple_of(2);
    Backend {
        generation: match (now.generation == before.generation, alive) {
            (true, _) => before.generation,
            (false, true) => next_even(now.generation),
            (false, false) => next_odd(now.generation),
        },
        epoch: now.epoch,
        ..*before
    }
}

fn flags(listed: PlannedBackend) -> u8 {
    let bit = |set, bit| if set { bit } else { 0 };
    bit(listed.local, LOCAL)
        | bit(listed.in_cluster_list, IN_CLUSTER_LIST)
        | bit(listed.in_local_list, IN_LOCAL_LIST)
}

fn epoch(present: &Backend, flags: u8) -> u32 {
    let left = present.flags & !flags & LISTS != 0;
    present.epoch.wrapping_add(u32::from(left))
}

fn next_even(generation: u32) -> u32 {
    generation.wrapping_add(generation & 1)
}

fn next_odd(generation: u32) -> u32 {
    generation | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: EndpointState = EndpointState {
        serving: true,
        terminating: false,
    };
    const LEAVING: EndpointState = EndpointState {
        serving: true,
        terminating: true,
    };
    const LEFT: EndpointState = EndpointState {
        serving: false,
        terminating: true,
    };

    fn present(flags: u8) -> Backend {
        Backend {
            generation: 4,
            epoch: 7,
            service: 1,
            flags,
            ..Backend::default()
        }
    }

    /// S35, S37.
    #[test]
    fn a_backend_dies_only_when_its_flows_must_not_go_on() {
        use Protocol::{Tcp, Udp};
        // (description, protocol, flags before, endpoint now, others serve, dead)
        type Case<'a> = (&'a str, Protocol, u8, Option<EndpointState>, bool, bool);
        let cases: &[Case] = &[
            (
                "UDP, stopped serving, another serves",
                Udp,
                TERMINATING,
                Some(LEFT),
                true,
                true,
            ),
            (
                "UDP, stopped serving, none left",
                Udp,
                TERMINATING,
                Some(LEFT),
                false,
                false,
            ),
            ("UDP, gone, another serves", Udp, 0, None, true, true),
            ("UDP, gone, none left", Udp, 0, None, false, false),
            (
                "UDP, still serving while it leaves",
                Udp,
                0,
                Some(LEAVING),
                true,
                false,
            ),
            (
                "UDP, still serving, no longer ready",
                Udp,
                0,
                Some(SERVING),
                true,
                false,
            ),
            ("TCP, leaving", Tcp, 0, Some(LEAVING), true, false),
            (
                "TCP, left but still there",
                Tcp,
                TERMINATING,
                Some(LEFT),
                true,
                false,
            ),
            ("TCP, gone after leaving", Tcp, TERMINATING, None, true, true),
            (
                "TCP, gone after leaving, none left",
                Tcp,
                TERMINATING,
                None,
                false,
                true,
            ),
            ("TCP, gone without leaving", Tcp, 0, None, true, false),
        ];
        for (description, protocol, flags, endpoint, others_serve, dead) in cases {
            let fate = Fate {
                listed: None,
                endpoint: *endpoint,
                protocol: *protocol,
                others_serve: *others_serve,
            };
            let after = after_switch(&present(*flags), &fate);
            assert_eq!(after.generation, if *dead { 5 } else { 4 }, "{description}");
            assert_eq!(
                after_switch(&after, &fate),
                after,
                "{description}: nothing more to do"
            );
        }
    }

    /// S33.
    #[test]
    fn leaving_a_list_moves_the_epoch_and_entering_one_does_not() {
        let cluster_only = PlannedBackend {
            local: true,
            in_cluster_list: true,
            in_local_list: false,
        };
        let fate = Fate {
            listed: Some(cluster_only),
            endpoint: Some(SERVING),
            protocol: Protocol::Tcp,
            others_serve: true,
        };
        let cases: &[(u8, u32)] = &[
            (0, 7),
            (LOCAL | IN_CLUSTER_LIST, 7),
            (LOCAL | IN_CLUSTER_LIST | IN_LOCAL_LIST, 8),
            (LOCAL | IN_LOCAL_LIST, 8),
        ];
        for (flags, epoch) in cases {
            let after = after_switch(&present(*flags), &fate);
            assert_eq!(
                (after.epoch, after.flags),
                (*epoch, LOCAL | IN_CLUSTER_LIST),
                "{flags:#b}"
            );
        }
    }

    #[test]
    fn a_dead_backend_that_is_listed_again_lives_in_the_next_generation() {
        let dead = Backend {
            generation: 5,
            ..present(0)
        };
        let listed = PlannedBackend {
            local: false,
            in_cluster_list: true,
            in_local_list: false,
        };
        assert_eq!(before_switch(&dead, listed).generation, 6);
        assert_eq!(before_switch(&present(0), listed).generation, 4);
    }

    #[test]
    fn an_index_taken_again_continues_its_counts() {
        let freed = freed(&present(IN_CLUSTER_LIST));
        assert_eq!((freed.service, freed.generation, freed.epoch), (0, 5, 8));
        let again = taken(present(0), Some(&freed));
        assert_eq!((again.generation, again.epoch), (6, 8));
    }

    #[test]
    fn taking_back_never_revives_what_a_reader_may_have_kept() {
        let dead = Backend {
            generation: 5,
            ..present(0)
        };
        let revived = Backend {
            generation: 6,
            epoch: 9,
            ..present(IN_CLUSTER_LIST)
        };
        let back = taken_back(&dead, &revived);
        assert_eq!((back.generation, back.epoch, back.flags), (7, 9, 0));
        assert_eq!(taken_back(&present(0), &dead).generation, 6);
    }
}
