//! Against the kernel, in network namespaces of the tests' own.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use futures::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use super::super::vlan_stripping::VlanStripping;
use super::super::{release_ports, reserve_ports, watch};
use super::*;
use crate::config::PortRange;

/// Runs `test` in a fresh network namespace, on a thread of its own because a namespace is a thread's; it goes with the thread.
fn in_a_network_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need the right to make network namespaces");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A network namespace with nothing in it, alive as long as the file.
fn another_network_namespace() -> File {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    thread.join().unwrap()
}

fn rtnetlink() -> Handle {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

async fn index_of(handle: &Handle, name: &str) -> u32 {
    let mut links = handle.link().get().match_name(name).execute();
    links.try_next().await.unwrap().unwrap().header.index
}

/// Waits until the picture is as wanted: within a second, as promised for new devices.
async fn seen(receiver: &mut Receiver<NodeState>, what: &str, wanted: impl Fn(&NodeState) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(1), receiver.wait_for(|state| wanted(state)));
    if let Ok(state) = waited.await {
        drop(state.unwrap());
        return;
    }
    panic!("not seen within a second: {what}; {:#?}", receiver.borrow());
}

fn named<'a>(state: &'a NodeState, name: &str) -> Option<&'a Link> {
    state.links.values().find(|link| link.name == name)
}

fn has_address(state: &NodeState, name: &str, address: IpAddr) -> bool {
    named(state, name).is_some_and(|link| link.addresses.iter().any(|own| own.ip() == address))
}

#[test]
fn devices_addresses_and_routes_are_seen_coming_and_going() {
    in_a_network_namespace(|| async {
        let handle = rtnetlink();
        let mut receiver = watch(CancellationToken::new()).await.unwrap();
        assert_eq!(
            named(&receiver.borrow(), "lo").unwrap().kind,
            LinkKind::Loopback,
            "the first picture is complete"
        );

        let elsewhere = another_network_namespace();
        let pod = LinkVeth::new("xvl-pod", "xvl-peer").build();
        handle.link().add(pod).execute().await.unwrap();
        seen(&mut receiver, "a veth with both ends here", |state| {
            named(state, "xvl-pod").is_some_and(|link| link.kind == LinkKind::Veth && !link.lower_elsewhere)
        })
        .await;
        let moved = LinkUnspec::new_with_name("xvl-peer").setns_by_fd(elsewhere.as_raw_fd());
        handle.link().set(moved.build()).execute().await.unwrap();
        seen(&mut receiver, "its other end in another namespace", |state| {
            named(state, "xvl-pod").is_some_and(|link| link.lower_elsewhere)
                && named(state, "xvl-peer").is_none()
        })
        .await;

        handle
            .link()
            .add(LinkVeth::new("xvl-up", "xvl-far").build())
            .execute()
            .await
            .unwrap();
        for name in ["xvl-up", "xvl-far"] {
            let up = LinkUnspec::new_with_name(name).up().build();
            handle.link().set(up).execute().await.unwrap();
        }
        let index = index_of(&handle, "xvl-up").await;
        let own = IpAddr::from([192, 0, 2, 1]);
        handle.address().add(index, own, 24).execute().await.unwrap();
        seen(&mut receiver, "an address", |state| {
            has_address(state, "xvl-up", own)
        })
        .await;

        let gateway = Ipv4Addr::new(192, 0, 2, 254);
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .pref_source(Ipv4Addr::new(192, 0, 2, 1));
        handle.route().add(default.build()).execute().await.unwrap();
        seen(&mut receiver, "a default route and its source", |state| {
            state
                .default_routes
                .iter()
                .any(|route| route.device == index && route.preferred_source == Some(own))
        })
        .await;

        // The kernel says nothing of the route that goes with its device.
        let down = LinkUnspec::new_with_name("xvl-up").down().build();
        handle.link().set(down).execute().await.unwrap();
        seen(&mut receiver, "the default route gone with its device", |state| {
            state.default_routes.is_empty() && named(state, "xvl-up").is_some_and(|link| !link.up)
        })
        .await;

        let mut addresses = handle.address().get().set_link_index_filter(index).execute();
        while let Some(message) = addresses.try_next().await.unwrap() {
            handle.address().del(message).execute().await.unwrap();
        }
        seen(&mut receiver, "the address gone", |state| {
            !has_address(state, "xvl-up", own)
        })
        .await;

        handle.link().del(index).execute().await.unwrap();
        seen(&mut receiver, "the device gone", |state| {
            named(state, "xvl-up").is_none()
        })
        .await;
    });
}

#[test]
fn a_storm_of_changes_ends_in_the_right_picture() {
    in_a_network_namespace(|| async {
        let handle = rtnetlink();
        let mut receiver = watch(CancellationToken::new()).await.unwrap();
        handle
            .link()
            .add(LinkVeth::new("xvl-a", "xvl-b").build())
            .execute()
            .await
            .unwrap();
        let index = index_of(&handle, "xvl-a").await;
        // The runtime has one thread: the watcher reads while this task waits for the kernel's answers.
        for round in 0..4u8 {
            for host in 1..=250u8 {
                handle
                    .address()
                    .add(index, IpAddr::from([10, 0, round, host]), 32)
                    .execute()
                    .await
                    .unwrap();
            }
        }
        seen(&mut receiver, "a thousand addresses", |state| {
            named(state, "xvl-a")
                .is_some_and(|link| link.addresses.iter().filter(|own| own.ip().is_ipv4()).count() == 1000)
        })
        .await;
        handle.link().del(index).execute().await.unwrap();
        seen(&mut receiver, "only lo left", |state| state.links.len() == 1).await;
    });
}

/// A veth passes tags beside the frame; that it has VLANs on it is not needed to ask.
#[test]
fn a_driver_is_asked_whether_it_strips_vlan_tags() {
    in_a_network_namespace(|| async {
        let handle = rtnetlink();
        handle
            .link()
            .add(LinkVeth::new("xvl-a", "xvl-b").build())
            .execute()
            .await
            .unwrap();
        let stripping = VlanStripping::open().unwrap();
        for (name, expected) in [
            ("xvl-a", Some(true)),
            ("lo", Some(false)),
            ("xvl-missing", None),
            ("a-name-no-device-can-have", None),
        ] {
            assert_eq!(stripping.of(name), expected, "{name}");
        }
    });
}

#[test]
fn the_watch_ends_when_told() {
    in_a_network_namespace(|| async {
        let cancel = CancellationToken::new();
        let mut receiver = watch(cancel.clone()).await.unwrap();
        cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(1), async {
            while receiver.changed().await.is_ok() {}
        });
        ended.await.expect("the sender is dropped");
    });
}

#[test]
fn ports_are_reserved_beside_those_of_others() {
    in_a_network_namespace(|| async {
        let file = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        let reserved = || std::fs::read_to_string(file).unwrap().trim().to_owned();
        let ours = [PortRange::NODE_PORTS, PortRange::ABOVE_LOCAL];
        std::fs::write(file, "8080\n").unwrap();

        assert_eq!(reserve_ports(&ours).unwrap(), ours);
        assert_eq!(reserved(), "8080,30000-32767,61000-65535");
        assert_eq!(reserve_ports(&ours).unwrap(), [], "a second time changes nothing");
        release_ports(&ours).unwrap();
        assert_eq!(reserved(), "8080");
        release_ports(&[PortRange::new(8080, 8080).unwrap()]).unwrap();
        assert_eq!(reserved(), "");
    });
}
