//! Megabytes in both directions: what the kernel merges and splits on the way (GRO, GSO) keeps its content.

use std::time::Duration;

use lab::cluster_lab::Shape;
use lab::cluster_lab::conversation::bulk;

use crate::on_both_shapes;
use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};

on_both_shapes!(megabytes_arrive_unchanged_in_both_directions);

const BYTES: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(20);

fn megabytes_arrive_unchanged_in_both_directions(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    for v6 in FAMILIES {
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            for (ns, to) in [
                (lab.topology().client().ns(), service.cluster_ip(v6)),
                (lab.topology().client().ns(), lab.node_port(0, service, v6)),
                (lab.pod(NEAR[1]).ns(), service.cluster_ip(v6)),
            ] {
                let answer =
                    bulk(ns, to, BYTES, LIMIT).unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account()));
                assert_eq!(answer.pod, name(pod));
            }
        }
    }
}
