//! The end of the datapath: not with its agent, but with `cleanup`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use futures::TryStreamExt;
use lab::cluster_lab::Shape;
use lab::link::Link;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};

use crate::site::Site;

const SHORT: Duration = Duration::from_millis(300);

/// Whether any program is on a device: native or generic XDP, or tcx on either side.
fn programs(link: &Link) -> Vec<String> {
    let netlink = link.ns().netlink().clone();
    let index = link.index();
    let message = link.ns().block_on(async move {
        netlink
            .link()
            .get()
            .match_index(index)
            .execute()
            .try_next()
            .await
            .unwrap()
            .unwrap()
    });
    let mut found: Vec<String> = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => Some(xdp),
            _ => None,
        })
        .flatten()
        .filter(|xdp| matches!(xdp, LinkXdp::Attached(attached) if *attached != XdpAttached::None))
        .map(|xdp| format!("{xdp:?}"))
        .collect();
    for side in [TcAttachType::Ingress, TcAttachType::Egress] {
        let name = link.name().to_owned();
        let (_, there) = link
            .ns()
            .run(move || SchedClassifier::query_tcx(&name, side))
            .unwrap();
        found.extend(
            there
                .iter()
                .map(|program| format!("{side:?} {:?}", program.name_as_str())),
        );
    }
    found
}

/// What is in a directory of pins but the files a BPF file system is born with.
fn pins(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_none_or(|extension| extension != "debug"))
        .map(|path| path.display().to_string())
        .collect()
}

/// S43.
#[test]
fn stopping_changes_nothing_and_cleanup_removes_everything() {
    let mut site = Site::start(Shape::NATIVE);
    let mut connection = site.lab.client().connect(site.web.cluster_ip(false)).unwrap();
    assert!(connection.request().by().is_some());
    let links = [
        site.lab.topology().node(0).host().uplink().clone(),
        site.lab.pod(0).host_end().clone(),
    ];
    let before = links.each_ref().map(programs);
    assert_eq!(before.each_ref().map(Vec::len), [3, 2], "{before:?}");

    site.lab.agent_mut(0).stop().unwrap();
    assert_eq!(links.each_ref().map(programs), before);
    assert!(connection.request().by().is_some());
    site.check_new_connections("after SIGTERM");
    let status = site.lab.agent(0).xvip(&["get", "status"]).unwrap();
    assert!(status.contains("not running"), "{status}");

    let state = site.lab.state();
    let said = site
        .lab
        .agent(0)
        .xvip(&["cleanup", "--state-dir", state.to_str().unwrap()])
        .unwrap();
    assert!(said.contains("detached"), "{said}");
    assert!(said.contains("reset net.ipv4.conf.lo.accept_local"), "{said}");
    assert_eq!(
        links.each_ref().map(programs),
        [const { Vec::<String>::new() }; 2]
    );
    assert_eq!(pins(site.lab.agent(0).bpffs()), Vec::<String>::new());
    let outcome = site.lab.client().patience(SHORT).tcp(site.web.cluster_ip(false));
    assert!(outcome.by().is_none(), "nobody serves any more: {outcome}");
    let again = site
        .lab
        .agent(0)
        .xvip(&["cleanup", "--state-dir", state.to_str().unwrap()])
        .unwrap();
    assert!(again.contains("Nothing of xvip"), "{again}");
}
