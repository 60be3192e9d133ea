//! Two Services that claim one address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::client::Caller;
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::poll;
use lab::server::Protocol;

use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};
use crate::{on_an_api_server, on_both_shapes};

on_both_shapes!(of_two_services_with_one_external_address_the_older_has_it);
on_an_api_server!(of_two_services_with_one_external_address_the_older_has_it);

/// A changed manifest, in the maps of agents on a busy machine.
const APPLIED: Duration = Duration::from_secs(30);
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// S46: whichever was seen first and whatever they are called. The other has it while the older is away; connections stay
/// where they are (S37).
fn of_two_services_with_one_external_address_the_older_has_it(shape: Shape) {
    let mut standard = Standard::start(shape);
    let claimed: [IpAddr; 2] = FAMILIES.map(|v6| Service::new("unused", 99).external(v6).ip());
    let [v4, v6] = claimed;
    let claim = |name, number, created| {
        let addresses = format!("externalIPs: [\"{v4}\", \"{v6}\"]");
        Service::new(name, number).created(created).field(&addresses)
    };
    let older = claim("z-older", 50, "2025-12-31T23:59:59Z");
    let younger = claim("a-younger", 51, "2026-01-01T00:00:00Z");
    let (of_older, of_younger) = (standard.endpoints(&NEAR[..1]), standard.endpoints(&FAR[..1]));
    standard.lab.write(&younger, &of_younger).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    wait_answered_by(lab, claimed, FAR[0]);

    lab.apply(&older, &of_older).unwrap();
    wait_answered_by(lab, claimed, NEAR[0]);
    check_own_addresses(lab, &[(&older, NEAR[0]), (&younger, FAR[0])]);
    let mut connections = FAMILIES.map(|v6| lab.client().connect(address(claimed, v6)).unwrap());
    let mut all_answer_from = |pod: usize| {
        for connection in &mut connections {
            assert_eq!(connection.request().answer().pod, name(pod));
        }
    };
    all_answer_from(NEAR[0]);

    lab.remove(&older).unwrap();
    wait_answered_by(lab, claimed, FAR[0]);
    all_answer_from(NEAR[0]);

    lab.apply(&older, &of_older).unwrap();
    wait_answered_by(lab, claimed, NEAR[0]);
    check_own_addresses(lab, &[(&older, NEAR[0]), (&younger, FAR[0])]);
    all_answer_from(NEAR[0]);
}

fn address(claimed: [IpAddr; 2], v6: bool) -> SocketAddr {
    (claimed[usize::from(v6)], lab::cluster_lab::service::PORT).into()
}

/// Waits until a pod answers at the claimed address, by both families and protocols, from outside and from a pod.
fn wait_answered_by(lab: &ClusterLab, claimed: [IpAddr; 2], pod: usize) {
    let callers: [Caller; 2] = [lab.client(), lab.pod_caller(NEAR[1])];
    for v6 in FAMILIES {
        for protocol in PROTOCOLS {
            for caller in &callers {
                let to = address(claimed, v6);
                poll::until(&format!("{} at {to}", name(pod)), APPLIED, || {
                    match caller.call(protocol, to) {
                        outcome if outcome.by() == Some(name(pod)) => Ok(()),
                        other => Err(other.to_string()),
                    }
                })
                .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account()));
            }
        }
    }
}

/// What only one of them claims is that one's.
fn check_own_addresses(lab: &ClusterLab, services: &[(&Service, usize)]) {
    for v6 in FAMILIES {
        for &(service, pod) in services {
            for to in [service.cluster_ip(v6), lab.node_port(0, service, v6)] {
                for protocol in PROTOCOLS {
                    assert_eq!(lab.client().call(protocol, to).answer().pod, name(pod));
                }
            }
        }
    }
}
