//! Whose affinity an entry is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::poll;

use crate::on_both_shapes;
use crate::standard::{FAMILIES, FAR, Standard, name};

on_both_shapes!(pods_behind_one_node_are_remembered_apart_and_a_changed_timeout_forgets_nobody);

/// A changed manifest, in the maps of an agent on a busy machine.
const APPLIED: Duration = Duration::from_secs(30);
/// Among four endpoints, a client that was forgotten would come to its old one this often in a row once in a million runs.
const CALLS: usize = 10;

/// S34: pods of node 1 call node 0, where they arrive with their own addresses.
fn pods_behind_one_node_are_remembered_apart_and_a_changed_timeout_forgets_nobody(shape: Shape) {
    let mut standard = Standard::start(shape);
    let sticky = |timeout: u32| {
        let timeout = format!("sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {timeout}}}}}");
        let service = Service::new("sticky", 30).field("sessionAffinity: ClientIP");
        service.field(&timeout)
    };
    let before = sticky(10_800);
    let all = standard.endpoints(&[0, 1, 2, 3]);
    standard.lab.write(&before, &all).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;

    let mut homes = BTreeMap::new();
    for v6 in FAMILIES {
        for pod in FAR {
            homes.insert((pod, v6), home(lab, &before, pod, v6));
        }
        let clients = FAR.map(|pod| lab.pod(pod).address(v6));
        let remembered = remembered(lab);
        for client in clients {
            assert!(remembered.contains(&client), "{client} is not in {remembered:?}");
        }
        let node = lab.topology().node(1).address(v6);
        assert!(!remembered.contains(&node), "the node itself has not called");
    }
    for timeout in [20_000, 600] {
        let after = sticky(timeout);
        lab.write(&after, &all).unwrap();
        wait_timeout(lab, timeout);
        for (&(pod, v6), before) in &homes {
            assert_eq!(
                &home(lab, &after, pod, v6),
                before,
                "{} after the timeout was {timeout}",
                name(pod)
            );
        }
    }
    // Each loses its own endpoint with that, and the other keeps its own.
    for v6 in FAMILIES {
        let (lost, kept) = (&homes[&(FAR[0], v6)], &homes[&(FAR[1], v6)]);
        let rest: Vec<_> = (0..4).filter(|&pod| name(pod) != lost).collect();
        lab.apply(&sticky(600), &standard.endpoints(&rest)).unwrap();
        assert_ne!(&home(lab, &before, FAR[0], v6), lost);
        if lost != kept {
            assert_eq!(&home(lab, &before, FAR[1], v6), kept);
        }
        lab.apply(&sticky(600), &all).unwrap();
    }
}

/// The one endpoint that a pod of node 1 gets at node 0's nodePort, whose address it keeps on the way there.
fn home(lab: &ClusterLab, service: &Service, pod: usize, v6: bool) -> String {
    let caller = lab.pod_caller(pod);
    let to = lab.node_port(0, service, v6);
    let homes: BTreeSet<_> = (0..CALLS).map(|_| caller.tcp(to).answer().pod).collect();
    assert_eq!(homes.len(), 1, "{} had several: {homes:?}", name(pod));
    homes.into_iter().next().expect("one")
}

/// The clients node 0 remembers.
fn remembered(lab: &ClusterLab) -> BTreeSet<IpAddr> {
    let entries = lab.agent(0).xvip_json(&["dump", "affinity"]).unwrap();
    let entries = entries.as_array().into_iter().flatten();
    entries
        .filter_map(|entry| entry["client"].as_str()?.parse().ok())
        .collect()
}

/// Waits until every frontend of node 0 that has affinity has this timeout.
fn wait_timeout(lab: &ClusterLab, seconds: u32) {
    poll::until("the timeout", APPLIED, || {
        let records = lab.agent(0).xvip_json(&["dump", "services"]).unwrap();
        let frontends = lab.agent(0).xvip_json(&["dump", "frontends"]).unwrap();
        let rows = |list: &serde_json::Value| list.as_array().cloned().unwrap_or_default();
        let used: BTreeSet<_> = rows(&frontends)
            .iter()
            .filter_map(|frontend| frontend["record"].as_u64())
            .collect();
        let timeouts: BTreeSet<_> = rows(&records)
            .iter()
            .filter(|record| {
                record["index"]
                    .as_u64()
                    .is_some_and(|index| used.contains(&index))
            })
            .filter_map(|record| record["affinitySeconds"].as_u64())
            .filter(|&timeout| timeout != 0)
            .collect();
        if timeouts == BTreeSet::from([u64::from(seconds)]) {
            Ok(())
        } else {
            Err(format!("{timeouts:?}"))
        }
    })
    .unwrap();
}
