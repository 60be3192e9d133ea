//! Real sockets through real agents: what a client of a Service gets, and whom the server sees.
//!
//! Every claim is made for both families, and for both kinds of uplink: whole frames with native XDP, and frames as
//! veth pairs deliver them, where the agent has to choose tc by itself.

mod affinity;
mod bulk;
mod conflicts;
mod devices;
mod endpoints;
mod hops;
mod host;
mod netfilter;
mod node_addresses;
mod node_ports;
mod reach;
mod refusals;
mod standard;
mod verdicts;

/// Each check as a test for both kinds of cluster.
macro_rules! on_both_shapes {
    ($($check:ident),+ $(,)?) => {
        mod native_xdp {
            $(#[test] fn $check() { super::$check(lab::cluster_lab::Shape::NATIVE); })+
        }
        mod tc_alone {
            $(#[test] fn $check() { super::$check(lab::cluster_lab::Shape::AUTO); })+
        }
    };
}

/// The same with objects from an API server instead of a directory.
macro_rules! on_an_api_server {
    ($($check:ident),+ $(,)?) => {
        mod native_xdp_and_an_api_server {
            $(#[test] fn $check() { super::$check(lab::cluster_lab::Shape::NATIVE.on_kube()); })+
        }
    };
}

/// The same with pods attached the other way.
macro_rules! on_both_shapes_with_other_pods {
    ($($check:ident),+ $(,)?) => {
        mod native_xdp_and_bridged_pods {
            $(#[test] fn $check() { super::$check(lab::cluster_lab::Shape::NATIVE_BRIDGED); })+
        }
        mod tc_alone_and_routed_pods {
            $(#[test] fn $check() { super::$check(lab::cluster_lab::Shape::AUTO_ROUTED); })+
        }
    };
}
pub(crate) use {on_an_api_server, on_both_shapes, on_both_shapes_with_other_pods};
