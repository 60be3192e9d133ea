//! `metricsBindAddress` (S42).

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use lab::client::Caller;
use lab::pod::PodNet;
use lab::poll;
use lab::server::{Protocol, Server};
use lab::topology::Topology;
use lb_userspace::metrics::CATALOG;

use crate::exposition::Exposition;
use crate::site::{LIMIT, METRICS, Site, Web};

fn scrape(site: &Site) -> Result<Exposition, String> {
    let response = site.metrics("/metrics")?;
    if response.status != 200 || !response.has_header("content-type: text/plain; version=0.0.4") {
        return Err(format!("{:?}", (response.status, response.headers)));
    }
    Exposition::parse(&response.body)
}

/// Waits until a sample has a value that is wanted.
fn wait_value(site: &Site, series: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let seen = poll::until(series, LIMIT, || match scrape(site)?.value(series) {
        Some(value) if wanted(value) => Ok(value),
        other => Err(format!("it is {other:?}")),
    });
    seen.unwrap_or_else(|error| panic!("{error:#}\n{}", site.agent.log()))
}

/// A node with one endpoint that serves, and a configuration file.
fn serving(configuration: &str) -> (Site, Web, Server, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("xvip.yaml");
    let head = "apiVersion: config.xvip.dev/v1alpha1\nkind: LoadBalancerConfiguration\n";
    fs::write(&path, format!("{head}{configuration}")).unwrap();
    let mut topology = Topology::builder().pods(PodNet::Routed).build().unwrap();
    let pod = topology.add_pod(0, "web").unwrap();
    let server = Server::start(pod.ns(), "web", &pod.addresses(), &[(Protocol::Tcp, 8080)]).unwrap();
    let addresses = pod.addresses().map(|address| address.to_string());
    let web = Web::local(&[(&addresses[0], "node0"), (&addresses[1], "node0")]);
    let mut site = Site::start_on(topology, &web, &["--config", path.to_str().unwrap()]);
    site.agent.wait_ready().unwrap();
    site.pods.push(pod);
    (site, web, server, files)
}

fn connect(site: &Site, to: SocketAddr, count: usize) {
    let caller = Caller::new(site.topology.client().ns()).patience(LIMIT);
    for outcome in caller.calls(Protocol::Tcp, to, count) {
        assert_eq!(outcome.by(), Some("web"), "{outcome}");
    }
}

/// S42.
#[test]
fn counters_move_with_traffic_and_go_on_after_a_restart() {
    let (mut site, _, _server, _files) =
        serving("metrics: {perService: {namespaces: [shop]}}\nmapSizes: {flowEntries4: 65536}\n");
    let total = "xvip_connections_total{ip_family=\"IPv4\"}";
    let own = |name: &str, family: &str| {
        format!(
            "xvip_service_{name}_total{{ip_family=\"{family}\",namespace=\"shop\",port=\"80\",port_name=\"http\",\
             protocol=\"TCP\",service=\"web\"}}"
        )
    };
    wait_value(&site, total, |value| value == 0.0);
    let entries = "xvip_flow_entries{ip_family=\"IPv4\"}";
    wait_value(&site, entries, |value| value == 0.0);
    let caller = Caller::new(site.topology.client().ns()).patience(LIMIT);
    let _open = caller.crowd("10.96.0.1:80".parse().unwrap(), 5).unwrap();
    // Two a connection, exact in a table of this size.
    wait_value(&site, entries, |value| value == 10.0);
    connect(&site, "[fd00:96::1]:80".parse().unwrap(), 3);
    wait_value(&site, total, |value| value == 5.0);
    wait_value(&site, &own("connections", "IPv6"), |value| value == 3.0);
    let exposition = scrape(&site).unwrap();
    for series in [
        "xvip_packets_total{ip_family=\"IPv4\"}",
        "xvip_bytes_total{ip_family=\"IPv6\"}",
        &own("packets", "IPv4"),
        &own("bytes", "IPv4"),
    ] {
        assert!(
            exposition.value(series) > Some(10.0),
            "{series}: {:?}",
            exposition.value(series)
        );
    }

    let rejected = "xvip_verdicts_total{reason=\"rejected\",verdict=\"reject\"}";
    assert_eq!(exposition.value(rejected), Some(0.0));
    assert_eq!(caller.tcp("10.96.0.1:81".parse().unwrap()).by(), None);
    wait_value(&site, rejected, |value| value >= 1.0);

    site.agent.restart().unwrap();
    site.agent.wait_ready().unwrap();
    assert!(
        wait_value(&site, rejected, |_| true) >= 1.0,
        "the kernel's own counter"
    );
    connect(&site, "10.96.0.1:80".parse().unwrap(), 1);
    wait_value(&site, total, |value| value == 6.0);
}

/// S42.
#[test]
fn every_metric_of_the_catalog_is_there_with_its_type_and_no_other() {
    let (site, _, _server, _files) = serving("metrics: {perService: {top: 1}}\n");
    wait_value(
        &site,
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"}",
        |at| at > 1e9,
    );
    let exposition = scrape(&site).unwrap();
    let mut kinds = exposition.kinds();
    kinds.retain(|name, _| !name.starts_with("process_"));
    let expected: BTreeMap<&str, &str> = CATALOG
        .iter()
        .map(|metric| (metric.name, metric.kind.name()))
        .collect();
    assert_eq!(kinds, expected);
    assert!(exposition.value("process_resident_memory_bytes") > Some(1e6));
}

/// S42.
#[test]
fn what_the_agent_does_is_counted() {
    let (site, mut web, _server, _files) = serving("");
    let synced = "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}";
    let syncs = wait_value(&site, synced, |count| count >= 1.0);
    let changes = wait_value(
        &site,
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        |count| count >= 2.0,
    );
    let elsewhere = |policy| {
        format!(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{{ip_family=\"IPv4\",traffic_policy=\"{policy}\"}}"
        )
    };
    wait_value(&site, &elsewhere("external"), |count| count == 0.0);
    let programmed = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}";
    wait_value(&site, programmed, |count| count == 0.0);

    web.endpoints = vec![("10.244.1.9".to_owned(), "node1")];
    let now = Timestamp::try_from(SystemTime::now()).unwrap();
    web.annotations = format!("{{endpoints.kubernetes.io/last-change-trigger-time: \"{now}\"}}");
    site.write(&web);
    wait_value(&site, &elsewhere("external"), |count| count == 1.0);
    wait_value(&site, &elsewhere("internal"), |count| count == 0.0);
    wait_value(&site, programmed, |count| count == 1.0);
    wait_value(&site, synced, |count| count > syncs);
    wait_value(
        &site,
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        |count| count == changes + 2.0,
    );
    wait_value(
        &site,
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        |count| count == 0.0,
    );
    wait_value(&site, "xvip_services", |count| count == 1.0);
    wait_value(&site, "xvip_map_entries{map=\"frontends\"}", |count| count > 0.0);
    let exposition = scrape(&site).unwrap();
    let per_service = exposition
        .kinds()
        .into_keys()
        .filter(|name| name.starts_with("xvip_service_"));
    assert_eq!(
        per_service.collect::<Vec<_>>(),
        ["xvip_service_ports"],
        "off unless asked for"
    );
}

/// S42.
#[test]
fn a_port_that_kube_proxy_holds_is_served_once_it_is_free() {
    let topology = Topology::builder().pods(PodNet::Routed).build().unwrap();
    let holder = topology.node(0).ns().run(|| TcpListener::bind(METRICS)).unwrap();
    let mut site = Site::start_on(topology, &Web::local(&[]), &["--healthz-bind-address="]);
    site.agent.wait_ready().unwrap();
    site.agent
        .wait_log("metrics: cannot listen at 127.0.0.1:10249", LIMIT)
        .unwrap();
    drop(holder);
    let answer = poll::until("metrics are served", LIMIT, || site.metrics("/proxyMode")).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ebpf"));
    assert_eq!(site.metrics("/healthz").unwrap().body, "ok");
    let configuration = site.metrics("/configz").unwrap().json();
    assert_eq!(configuration["kind"], "LoadBalancerConfiguration");
    assert_eq!(configuration["healthzBindAddress"], "");
    assert_eq!(configuration["hostnameOverride"], "node0");
    let refused = site.ask(false, crate::site::HEALTH_PORT, "/healthz").unwrap_err();
    assert!(refused.contains("refused"), "{refused}");
}
