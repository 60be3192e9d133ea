//! From manifests to verdicts and updates, through everything but the file notifications.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::allocate::{Allocations, Allocator};
use super::catalog::Catalog;
use super::decode;
use super::ranges::Ranges;
use crate::model::{Service, ServiceKey, Update};
use crate::source::{Outcome, Report};

/// A directory of texts instead of files, and the cluster they make.
struct Cluster {
    catalog: Catalog,
    allocator: Allocator,
    files: BTreeMap<PathBuf, Result<decode::DecodedFile, String>>,
}

impl Cluster {
    fn new(allocator: Allocator) -> Self {
        Self {
            catalog: Catalog::default(),
            allocator,
            files: BTreeMap::new(),
        }
    }

    fn dual_stack() -> Self {
        Self::new(Allocator::new(Ranges::default(), Allocations::new()))
    }

    fn single_stack() -> Self {
        let ranges = Ranges::new(&["10.96.0.0/16".parse().unwrap()], 30_000..=32_767, &[]).unwrap();
        Self::new(Allocator::new(ranges, Allocations::new()))
    }

    fn write(&mut self, file: &str, text: &str) -> (Vec<Update>, Report) {
        self.files.insert(PathBuf::from(file), Ok(decode::file(text)));
        self.reload()
    }

    fn delete(&mut self, file: &str) -> (Vec<Update>, Report) {
        self.files.remove(&PathBuf::from(file));
        self.reload()
    }

    fn reload(&mut self) -> (Vec<Update>, Report) {
        self.catalog.reload(&self.files, &mut self.allocator, 1_000)
    }
}

fn services(updates: &[Update]) -> Vec<&Service> {
    let applied = updates.iter().filter_map(|update| match update {
        Update::ServiceApplied(service) => Some(service),
        _ => None,
    });
    applied.collect()
}

fn only_service(updates: &[Update]) -> &Service {
    let services = services(updates);
    assert_eq!(services.len(), 1, "{updates:?}");
    services[0]
}

fn manifest(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// What an API server (1.36) answered to the same objects: the field and the words of each cause.
#[test]
fn services_are_refused_in_the_api_servers_words() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let bad_name = format!("metadata.name: Invalid value: \"E8_bad\": {label}");
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "outside",
            "{ports: [{port: 80}], clusterIP: 10.0.171.239}",
            &[
                "spec.clusterIPs: Invalid value: [\"10.0.171.239\"]: failed to allocate IP 10.0.171.239: the provided \
               network does not match the current range",
            ],
        ),
        (
            "no-address",
            "{ports: [{port: 80}], clusterIP: banana}",
            &[
                "spec.clusterIPs[0]: Invalid value: \"banana\": must be a valid IP address, (e.g. 10.9.8.7 or \
               2001:db8::ffff)",
            ],
        ),
        (
            "taken-address",
            "{ports: [{port: 80}], clusterIP: 10.96.1.1}",
            &[
                "spec.clusterIPs: Invalid value: [\"10.96.1.1\"]: failed to allocate IP 10.96.1.1: provided IP is \
               already allocated",
            ],
        ),
        (
            "node-port-outside",
            "{ports: [{port: 80, nodePort: 80}], type: NodePort}",
            &[
                "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of \
               valid ports is 30000-32767",
            ],
        ),
        (
            "node-port-taken",
            "{ports: [{port: 80, nodePort: 30080}], type: NodePort}",
            &["spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"],
        ),
        (
            "nameless-ports",
            "{ports: [{port: 80}, {port: 81}]}",
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
            ],
        ),
        (
            "port-outside",
            "{ports: [{port: 70000}]}",
            &[
                "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        ("E8_bad", "{ports: [{port: 80}]}", &[&bad_name]),
        (
            "affinity",
            "{ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: \
             90000}}}",
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and \
               less than 86400",
            ],
        ),
        (
            "nowhere",
            "{ports: [{port: 80}], type: ExternalName}",
            &["spec.externalName: Required value"],
        ),
        (
            "source-range",
            "{ports: [{port: 80}], type: LoadBalancer, loadBalancerSourceRanges: [300.0.0.0/8]}",
            &[
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"300.0.0.0/8\": must be a valid CIDR value, (e.g. \
               10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
        (
            "policy",
            "{ports: [{port: 80}], externalTrafficPolicy: Local}",
            &[
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible \
               services",
            ],
        ),
        (
            "protocol",
            "{ports: [{port: 80, protocol: ICMP}]}",
            &[
                "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            "dual",
            "{ports: [{port: 80}], ipFamilyPolicy: RequireDualStack}",
            &[
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for \
               dual-stack services",
            ],
        ),
        (
            "six",
            "{ports: [{port: 80}], ipFamilies: [IPv6]}",
            &["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"],
        ),
        ("portless", "{selector: {a: b}}", &["spec.ports: Required value"]),
    ];
    let mut cluster = Cluster::single_stack();
    let taken = "{type: NodePort, clusterIP: 10.96.1.1, ports: [{port: 80, nodePort: 30080}]}";
    cluster.write("a.yaml", &manifest("holder", taken));
    for (name, spec, expected) in cases {
        let (updates, report) = cluster.write("b.yaml", &manifest(name, spec));
        assert_eq!(updates, [], "{name}");
        let Outcome::Refused {
            problems,
            kept: false,
        } = &report.entries[1].outcome
        else {
            panic!("{name}: {report}")
        };
        let words: Vec<String> = problems
            .iter()
            .map(|located| located.problem.to_string())
            .collect();
        assert_eq!(words, *expected, "{name}");
    }
}

#[test]
fn slices_and_endpoints_are_refused_in_the_api_servers_words() {
    let slice = |address_type: &str, address: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s\n  labels: \
             {{kubernetes.io/service-name: x}}\naddressType: {address_type}\nports: [{{port: 80}}]\nendpoints:\n- \
             addresses: ['{address}']\n"
        )
    };
    let cases = [
        (
            "IPv4",
            "127.0.0.1",
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            "IPv6",
            "::1",
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            "IPv4",
            "169.254.1.1",
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            "IPv6",
            "ff02::1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
        ("IPv4", "0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("IPv4", "fd00::1", "must be a valid IPv4 address"),
    ];
    for (address_type, address, words) in cases {
        let (updates, report) = Cluster::dual_stack().write("a.yaml", &slice(address_type, address));
        assert_eq!(updates, []);
        let text = format!("endpoints[0].addresses[0]: Invalid value: \"{address}\": {words}\n");
        assert!(report.to_string().ends_with(&text), "{report}");
    }
}

#[test]
fn a_misspelt_field_is_named_with_its_line_and_the_service_is_not_applied() {
    let text = "\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  externalTrafficPilicy: Local
  type: NodePort
  ports:
  - port: 8080
";
    let (updates, report) = Cluster::dual_stack().write("web.yaml", text);
    assert_eq!(updates, []);
    assert_eq!(
        report.to_string(),
        "web.yaml:6: Service default/web: refused: spec.externalTrafficPilicy: unknown field (did you mean \
         externalTrafficPolicy?)\n"
    );
}

#[test]
fn the_last_good_version_stays_in_force_and_the_neighbours_go_on() {
    let mut cluster = Cluster::dual_stack();
    let good = |port: u16| manifest("web", &format!("{{ports: [{{port: {port}}}]}}"));
    let (updates, _) = cluster.write("web.yaml", &good(80));
    assert_eq!(only_service(&updates).ports[0].port, 80);

    // An invalid value, an unknown field, a value of the wrong type: the old one stays.
    for spec in [
        "{ports: [{port: 0}]}",
        "{prots: [{port: 81}]}",
        "{ports: [{port: x}]}",
    ] {
        let text = manifest("web", spec) + &manifest("other", "{ports: [{port: 80}]}");
        let (_, report) = cluster.write("web.yaml", &text);
        assert!(
            matches!(report.entries[0].outcome, Outcome::Refused { kept: true, .. }),
            "{report}"
        );
        assert!(
            report
                .to_string()
                .contains("(the last good version stays in force)")
        );
        assert!(
            matches!(report.entries[1].outcome, Outcome::Service(_)),
            "{report}"
        );
    }

    // A document that is not YAML: what is not elsewhere in the file stays, what is there is taken.
    let text = "spec: [\n".to_owned() + &manifest("other", "{ports: [{port: 90}]}");
    let (updates, report) = cluster.write("web.yaml", &text);
    assert_eq!(only_service(&updates).key.name, "other");
    assert!(
        matches!(report.entries[0].outcome, Outcome::Refused { kept: true, .. }),
        "{report}"
    );

    let (updates, _) = cluster.write("web.yaml", &good(81));
    assert_eq!(only_service(&updates).ports[0].port, 81);
    assert_eq!(
        updates[1..],
        [Update::ServiceDeleted(ServiceKey::new("default", "other"))]
    );
    assert_eq!(
        cluster.delete("web.yaml").0,
        [Update::ServiceDeleted(ServiceKey::new("default", "web"))]
    );
}

#[test]
fn only_what_changed_is_delivered() {
    let mut cluster = Cluster::dual_stack();
    let first = manifest("a", "{ports: [{port: 80}]}") + &manifest("b", "{ports: [{port: 80}]}");
    assert_eq!(services(&cluster.write("all.yaml", &first).0).len(), 2);
    assert_eq!(cluster.reload().0, []);
    let second = manifest("a", "{ports: [{port: 80}]}") + &manifest("b", "{ports: [{port: 81}]}");
    assert_eq!(only_service(&cluster.write("all.yaml", &second).0).key.name, "b");
    // Moved to another file, comments added: nothing changed.
    cluster.files.clear();
    assert_eq!(cluster.write("moved.yaml", &format!("# words\n{second}")).0, []);
}

#[test]
fn an_object_that_stands_twice_counts_once() {
    let mut cluster = Cluster::dual_stack();
    cluster.write("a.yaml", &manifest("web", "{ports: [{port: 80}]}"));
    let (updates, report) = cluster.write("b.yaml", &manifest("web", "{ports: [{port: 81}]}"));
    assert_eq!(updates, []);
    assert_eq!(
        report.entries[1].to_string(),
        "b.yaml:4: Service default/web: refused: services \"web\" already exists (a.yaml:2)"
    );
}

/// A tutorial's directory: the first version asks for an address the cluster does not have.
#[test]
fn the_first_good_version_of_an_object_counts() {
    let mut cluster = Cluster::dual_stack();
    let good = manifest("web", "{ports: [{port: 81}]}");
    cluster.write(
        "a.yaml",
        &manifest("web", "{ports: [{port: 80}], clusterIP: 10.0.0.1}"),
    );
    let (updates, report) = cluster.write("b.yaml", &good);
    assert_eq!(only_service(&updates).ports[0].port, 81);
    assert_eq!(report.refused(), 1, "{report}");
    // A broken edit of the version in force does not put another file's version in its place.
    cluster.write("c.yaml", &manifest("web", "{ports: [{port: 82}]}"));
    let (updates, report) = cluster.write("b.yaml", &manifest("web", "{ports: [{port: 0}]}"));
    assert_eq!(updates, []);
    assert!(
        matches!(report.entries[1].outcome, Outcome::Refused { kept: true, .. }),
        "{report}"
    );
    // Moved and misspelt at once: named still, so the last good version stays.
    let mut moved = Cluster::dual_stack();
    moved.write("a.yaml", &good);
    moved.files.clear();
    let (updates, report) = moved.write("z.yaml", &manifest("web", "{prots: []}"));
    assert_eq!(updates, []);
    assert!(
        matches!(report.entries[0].outcome, Outcome::Refused { kept: true, .. }),
        "{report}"
    );
}

#[test]
fn allocations_are_stable_whatever_comes_and_goes() {
    let mut cluster = Cluster::dual_stack();
    let web = manifest(
        "web",
        "{type: NodePort, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}",
    );
    let (updates, _) = cluster.write("web.yaml", &web);
    let before = only_service(&updates).clone();
    assert_eq!(before.cluster_ips.len(), 2);

    // Other Services, and a restart with what was saved.
    for number in 0..50 {
        cluster.write(
            &format!("{number}.yaml"),
            &manifest(&format!("s{number}"), "{type: NodePort, ports: [{port: 1}]}"),
        );
    }
    let saved = cluster.allocator.held().clone();
    let mut restarted = Cluster::new(Allocator::new(Ranges::default(), saved));
    restarted.files = cluster.files.clone();
    let (updates, _) = restarted.reload();
    assert_eq!(
        services(&updates)
            .into_iter()
            .find(|service| service.key == before.key),
        Some(&before)
    );

    // A file that cannot be read does not cost its Services their addresses, even at a start.
    let mut damaged = Cluster::new(Allocator::new(
        Ranges::default(),
        restarted.allocator.held().clone(),
    ));
    damaged.write("web.yaml", "spec: [");
    let (updates, _) = damaged.write("web.yaml", &web);
    assert_eq!(only_service(&updates), &before);

    // Gone for good, its addresses are free.
    damaged.delete("web.yaml");
    assert_eq!(damaged.allocator.held().len(), 0);
}

#[test]
fn a_claim_comes_before_a_free_choice() {
    let mut cluster = Cluster::dual_stack();
    let (updates, _) = cluster.write("z.yaml", &manifest("web", "{ports: [{port: 80}]}"));
    let chosen = only_service(&updates).cluster_ips[0];
    // From scratch, a Service that states that address gets it, whatever the order of the files.
    let mut fresh = Cluster::dual_stack();
    fresh.files = cluster.files.clone();
    let (updates, report) = fresh.write(
        "zz.yaml",
        &manifest(
            "claims",
            &format!("{{ports: [{{port: 80}}], clusterIP: {chosen}}}"),
        ),
    );
    assert_eq!(report.refused(), 0, "{report}");
    let owners: Vec<_> = services(&updates)
        .into_iter()
        .filter(|service| service.cluster_ips == [chosen])
        .collect();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].key.name, "claims");
}

#[test]
fn families_follow_the_policy() {
    let cases = [
        ("{ports: [{port: 80}]}", "4"),
        (
            "{ports: [{port: 80}], ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]}",
            "6",
        ),
        ("{ports: [{port: 80}], ipFamilyPolicy: PreferDualStack}", "46"),
        (
            "{ports: [{port: 80}], ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]}",
            "64",
        ),
        (
            "{ports: [{port: 80}], ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]}",
            "64",
        ),
        ("{ports: [{port: 80}], clusterIP: 'fd00:10:96::5'}", "6"),
        (
            "{ports: [{port: 80}], clusterIP: 10.96.0.9, ipFamilyPolicy: PreferDualStack}",
            "46",
        ),
    ];
    for (spec, expected) in cases {
        let (updates, report) = Cluster::dual_stack().write("a.yaml", &manifest("a", spec));
        assert_eq!(report.refused(), 0, "{report}");
        let ips = &only_service(&updates).cluster_ips;
        let families: String = ips
            .iter()
            .map(|ip| if ip.is_ipv4() { '4' } else { '6' })
            .collect();
        assert_eq!(families, expected, "{spec}");
    }
    let two = "{ports: [{port: 80}], ipFamilies: [IPv4, IPv6]}";
    let (_, report) = Cluster::dual_stack().write("a.yaml", &manifest("a", two));
    assert!(report.to_string().contains(
        "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
         multiple IP families are specified"
    ));
}

#[test]
fn node_ports_and_load_balancer_addresses_are_given_as_a_cluster_gives_them() {
    let ranges = Ranges::new(
        &["10.96.0.0/16".parse().unwrap()],
        30_000..=32_767,
        &["192.0.2.0/29".parse().unwrap(), "2001:db8::/120".parse().unwrap()],
    );
    let allocator = Allocator::new(ranges.unwrap(), Allocations::new());
    let mut cluster = Cluster::new(allocator);
    let dns = "{type: LoadBalancer, externalTrafficPolicy: Local, ports: [{name: u, port: 53, protocol: UDP}, {name: t, \
               port: 53}]}";
    let (updates, _) = cluster.write("a.yaml", &manifest("dns", dns));
    let service = only_service(&updates);
    assert_eq!(service.ports[0].node_port, service.ports[1].node_port);
    assert!(service.ports[0].node_port.is_some());
    assert!(service.health_check_node_port.is_some());
    assert_ne!(service.health_check_node_port, service.ports[0].node_port);
    assert_eq!(service.load_balancer_vips.len(), 1, "one family, one address");

    let bare = "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}\nstatus: {loadBalancer: \
                {ingress: [{ip: 203.0.113.9}, {ip: 203.0.113.10, ipMode: Proxy}, {hostname: example.org}]}}";
    let (updates, _) = cluster.write("b.yaml", &manifest("bare", bare));
    let service = only_service(&updates);
    assert_eq!(service.ports[0].node_port, None);
    assert_eq!(
        service.load_balancer_vips,
        ["203.0.113.9".parse::<std::net::IpAddr>().unwrap()]
    );

    for number in 0..6 {
        let spec = "{type: LoadBalancer, ports: [{port: 80}]}";
        let (_, report) = cluster.write(&format!("c{number}.yaml"), &manifest(&format!("c{number}"), spec));
        assert_eq!(
            report
                .to_string()
                .contains("no free IPv4 load-balancer address is left"),
            number == 5
        );
    }
}

#[test]
fn endpoints_become_slices_only_for_a_service_without_selector() {
    let endpoints = "\
apiVersion: v1
kind: Endpoints
metadata:
  name: db
  annotations: {endpoints.kubernetes.io/over-capacity: truncated}
subsets:
- addresses: [{ip: 192.0.2.42, nodeName: n1}, {ip: '2001:db8::42'}]
  notReadyAddresses: [{ip: 192.0.2.43}]
  ports: [{port: 9376}]
";
    let mut cluster = Cluster::dual_stack();
    let (updates, report) = cluster.write("a.yaml", endpoints);
    assert_eq!(updates, []);
    assert!(
        report
            .to_string()
            .contains("skipped: there is no Service default/db"),
        "{report}"
    );

    let (updates, report) = cluster.write(
        "b.yaml",
        &manifest("db", "{ports: [{port: 80, targetPort: 9376}]}"),
    );
    let slices: Vec<_> = updates
        .iter()
        .filter_map(|update| match update {
            Update::SliceApplied(slice) => Some(slice),
            _ => None,
        })
        .collect();
    assert_eq!(slices.len(), 2, "{updates:?}");
    let seen: Vec<_> = slices[0]
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.address.to_string(), endpoint.ready, endpoint.serving))
        .collect();
    assert_eq!(
        seen,
        [
            ("192.0.2.42".to_owned(), true, true),
            ("192.0.2.43".to_owned(), false, true)
        ]
    );
    assert_eq!(slices[0].endpoints[0].node_name.as_deref(), Some("n1"));
    assert_eq!(
        (slices[0].ports[0].name.as_str(), slices[0].ports[0].port),
        ("", 9376)
    );
    assert_eq!(report.entries[0].warnings.len(), 1, "{report}");

    let (updates, report) = cluster.write(
        "b.yaml",
        &manifest("db", "{selector: {a: b}, ports: [{port: 80}]}"),
    );
    assert_eq!(
        updates
            .iter()
            .filter(|update| matches!(update, Update::SliceDeleted(_)))
            .count(),
        2
    );
    assert!(report.to_string().contains("has a selector"), "{report}");
}

#[test]
fn headless_external_name_and_foreign_services_are_skipped_and_not_refused() {
    let cases = [
        ("{clusterIP: None, selector: {a: b}}", "headless"),
        (
            "{type: ExternalName, externalName: db.example.org}",
            "ExternalName",
        ),
    ];
    for (spec, word) in cases {
        let (updates, report) = Cluster::dual_stack().write("a.yaml", &manifest("a", spec));
        assert_eq!(updates, []);
        assert!(
            matches!(&report.entries[0].outcome, Outcome::Skipped(reason) if reason.contains(word)),
            "{report}"
        );
    }
}
