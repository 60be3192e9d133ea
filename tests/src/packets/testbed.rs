//! The node that packet tests run on: a network namespace with two uplinks and a pod's device, and the routes and neighbours
//! that `bpf_fib_lookup` answers from. No packet ever leaves it.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::unistd::Pid;
use rtnetlink::LinkUnspec;

use super::who::{Family, Mac, Who};
use crate::link::{Link, veth};
use crate::netns::Netns;

/// The node. The thread that made it lives in its namespace until it is dropped: test runs look up devices by the namespace
/// of their caller. It stays on one CPU for good: the programs count and ration by CPU.
#[derive(Debug)]
pub struct Testbed {
    // Dropped first: one has to leave a namespace before it can go.
    _inside: Inside,
    _ns: Netns,
    uplink: u32,
    second: u32,
    pod: u32,
}

impl Testbed {
    /// Makes it.
    ///
    /// # Errors
    /// When not root, or when the kernel refuses.
    pub fn new() -> Result<Self> {
        let ns = Netns::new("packets")?;
        crate::host::quiet(&ns)?;
        ns.sysctl("net/ipv4/ip_forward", "1")?;
        ns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let uplink = device(&ns, "up0", Mac::Uplink)?;
        let second = device(&ns, "up1", Mac::Second)?;
        let pod = device(&ns, "pod0", Mac::PodDevice)?;
        for family in Family::BOTH {
            let whole = |who: Who, v4: u8, v6: u8| {
                let length = if family == Family::V4 { v4 } else { v6 };
                IpNet::new(who.ip(family), length).expect("a constant length")
            };
            uplink.add_address(whole(Who::Node, 24, 64))?;
            second.add_address(whole(Who::NodeSecond, 24, 64))?;
            for who in [Who::Pod, Who::OtherPod] {
                ns.add_route(whole(who, 32, 128), None, &pod)?;
                pod.add_neighbour(who.ip(family), Mac::Pod.bytes())?;
            }
            // Routes through their nodes would do as well; neighbours on the link make fewer names.
            for (who, link, mac) in [
                (Who::RemotePod, &uplink, Some(Mac::RemoteNode)),
                (Who::OtherRemotePod, &uplink, Some(Mac::RemoteNode)),
                (Who::LostPod, &uplink, None),
                (Who::FarPod, &second, Some(Mac::FarNode)),
                (Who::Client, &uplink, Some(Mac::Client)),
            ] {
                ns.add_route(whole(who, 32, 128), None, link)?;
                if let Some(mac) = mac {
                    link.add_neighbour(who.ip(family), mac.bytes())?;
                }
            }
            for n in 0..8 {
                ns.add_route(whole(Who::Crowd(n), 32, 128), None, &uplink)?;
                uplink.add_neighbour(Who::Crowd(n).ip(family), Mac::Client.bytes())?;
            }
        }
        let inside = Inside::enter(ns.file())?;
        pin_to_one_cpu()?;
        Ok(Self {
            _inside: inside,
            uplink: uplink.index(),
            second: second.index(),
            pod: pod.index(),
            _ns: ns,
        })
    }

    /// ifindex of the first uplink.
    #[must_use]
    pub fn uplink(&self) -> u32 {
        self.uplink
    }

    /// ifindex of the second uplink.
    #[must_use]
    pub fn second(&self) -> u32 {
        self.second
    }

    /// ifindex of the node's end of the pod's device.
    #[must_use]
    pub fn pod(&self) -> u32 {
        self.pod
    }
}

/// One end of a veth pair with a known hardware address; the other end only gives it a carrier.
fn device(ns: &Netns, name: &str, mac: Mac) -> Result<Link> {
    let (own, far) = veth((ns, name), (ns, &format!("{name}-far")))?;
    let (netlink, index) = (ns.netlink().clone(), own.index());
    ns.block_on(async move {
        let change = LinkUnspec::new_with_index(index).address(mac.bytes().to_vec());
        netlink.link().set(change.build()).execute().await
    })
    .with_context(|| format!("setting the address of {own}"))?;
    own.up()?;
    far.up()?;
    own.wait_running()?;
    ns.link(name)
}

/// Keeps the calling thread on the first CPU it may use.
fn pin_to_one_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).context("reading the CPU affinity")?;
    let mut one = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        if allowed.is_set(cpu)? {
            one.set(cpu)?;
            break;
        }
    }
    sched_setaffinity(this, &one).context("pinning to a CPU")
}

/// The calling thread in another network namespace; back in its own on drop.
#[derive(Debug)]
struct Inside {
    home: File,
    // A namespace belongs to a thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Inside {
    fn enter(ns: &File) -> Result<Self> {
        let home = File::open("/proc/thread-self/ns/net").context("opening the thread's own namespace")?;
        setns(ns.as_fd(), CloneFlags::CLONE_NEWNET).context("entering the testbed's namespace")?;
        Ok(Self {
            home,
            _not_send: std::marker::PhantomData,
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        setns(self.home.as_fd(), CloneFlags::CLONE_NEWNET).expect("a namespace that is open can be entered");
    }
}
