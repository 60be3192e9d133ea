//! The cluster most checks run on: two pods on each of two nodes, and a Service for each kind of backend.

use lab::cluster_lab::{ClusterLab, Endpoint, Service, Shape};

pub(crate) const FAMILIES: [bool; 2] = [false, true];

/// Pods by index.
pub(crate) const NEAR: [usize; 2] = [0, 1];
pub(crate) const FAR: [usize; 2] = [2, 3];
const NAMES: [&str; 4] = ["near-0", "near-1", "far-0", "far-1"];

/// The cluster, agents running.
pub(crate) struct Standard {
    pub(crate) lab: ClusterLab,
    /// All four pods.
    pub(crate) all: Service,
    /// The first pod of node 0, where clients send.
    pub(crate) near: Service,
    /// The first pod of node 1.
    pub(crate) far: Service,
}

impl Standard {
    pub(crate) fn start(shape: Shape) -> Self {
        let mut lab = ClusterLab::build(shape).unwrap();
        for (index, name) in NAMES.into_iter().enumerate() {
            assert_eq!(lab.add_pod(index / 2, name).unwrap(), index);
        }
        let service = |name, number| Service::new(name, number).with_load_balancer().with_external();
        let standard = Self {
            all: service("all", 1),
            near: service("near", 2),
            far: service("far", 3),
            lab,
        };
        let lab = &standard.lab;
        lab.write(&standard.all, &standard.endpoints(&[0, 1, 2, 3]))
            .unwrap();
        lab.write(&standard.near, &standard.endpoints(&NEAR[..1]))
            .unwrap();
        lab.write(&standard.far, &standard.endpoints(&FAR[..1])).unwrap();
        standard
    }

    /// With agents.
    pub(crate) fn running(shape: Shape) -> Self {
        let mut standard = Self::start(shape);
        standard.lab.start_agents(&[]).unwrap();
        standard
    }

    pub(crate) fn endpoints(&self, pods: &[usize]) -> Vec<Endpoint> {
        pods.iter().map(|&pod| self.lab.endpoint(pod)).collect()
    }
}

pub(crate) fn name(pod: usize) -> &'static str {
    NAMES[pod]
}
