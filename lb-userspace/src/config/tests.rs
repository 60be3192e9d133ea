//! What is accepted, what is refused, and in which words.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    flags: AgentFlags,
}

fn flags(arguments: &[&str]) -> AgentFlags {
    Command::try_parse_from([&["agent"], arguments].concat())
        .unwrap()
        .flags
}

fn load(body: &str, arguments: &[&str]) -> Result<Config, String> {
    let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}");
    load_text(&text, arguments)
}

fn load_text(text: &str, arguments: &[&str]) -> Result<Config, String> {
    let file = Some((Path::new("lb.yaml"), text));
    Config::from_layers(file, &flags(arguments), 8 << 30, PortRange::new(32_768, 60_999))
        .map_err(|error| error.to_string())
}

#[test]
fn every_field_is_read() {
    let config = load(
        r#"
source: dir:/srv/manifests
clientConnection:
  kubeconfig: /etc/xvip/kubeconfig
  apiServers: ["https://192.0.2.10:6443", "https://[2001:db8::10]:6443"]
hostnameOverride: node-1
devices: ["eth*", bond0]
podDevices: [cali*]
xdpMode: native
bpffs: /sys/fs/bpf/other
clusterCIDRs: [10.244.0.0/16, "fd00:244::/56"]
nodePortAddresses: [192.0.2.7/24]
serviceClusterIPRange: [10.100.0.0/16]
serviceNodePortRange: 20000-20100
lbIPRange: [198.51.100.0/24]
snatPortRange: 62000-63000
sourceAddress: kube-proxy
masqueradeAll: true
allowServiceExternalIPs: false
conntrack:
  tcpSynRecvTimeout: 30s
  tcpEstablishedTimeout: 2h30m
  tcpCloseWaitTimeout: 1h
  tcpCloseTimeout: 5s
  udpTimeout: 20s
  udpStreamTimeout: 3m
mapSizes:
  flowEntries4: 1024
  flowEntries6: 2048
  services: 10
  backends: 20
  slots: 30
  frontends: 40
  affinityEntries: 50
  sourceRanges: 60
rejectsPerSecond: 7
healthzBindAddress: "[::1]:10256"
metricsBindAddress: ""
metrics:
  perService:
    namespaces: [shop, pay]
    top: 12
logLevel: debug
datapathTrace: info
stateDirectory: /srv/state
"#,
        &[],
    )
    .unwrap();
    let nets = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let expected = Config {
        source: Source::Directory("/srv/manifests".into()),
        client_connection: ClientConnection {
            kubeconfig: Some("/etc/xvip/kubeconfig".into()),
            api_servers: vec![
                "https://192.0.2.10:6443".parse().unwrap(),
                "https://[2001:db8::10]:6443".parse().unwrap(),
            ],
        },
        hostname_override: Some("node-1".to_owned()),
        devices: vec!["eth*".parse().unwrap(), "bond0".parse().unwrap()],
        pod_devices: vec!["cali*".parse().unwrap()],
        xdp_mode: XdpMode::Native,
        bpffs: "/sys/fs/bpf/other".into(),
        cluster_cidrs: nets(&["10.244.0.0/16", "fd00:244::/56"]),
        node_port_addresses: NodePortAddresses::Cidrs(nets(&["192.0.2.0/24"])),
        service_cluster_ip_range: nets(&["10.100.0.0/16"]),
        service_cluster_ip_range_given: true,
        service_node_port_range: PortRange::new(20_000, 20_100).unwrap(),
        lb_ip_range: nets(&["198.51.100.0/24"]),
        snat_port_range: PortRange::new(62_000, 63_000).unwrap(),
        source_address: SourceAddress::KubeProxy,
        masquerade_all: true,
        allow_service_external_ips: false,
        timeouts: Timeouts {
            tcp_open: 30,
            tcp_established: 9000,
            tcp_closing: 3600,
            tcp_reset: 5,
            udp: 20,
            udp_stream: 180,
        },
        map_sizes: MapSizes {
            flow_entries4: 1024,
            flow_entries6: 2048,
            services: 10,
            backends: 20,
            slots: 30,
            frontends: 40,
            affinity_entries: 50,
            source_ranges: 60,
        },
        rejects_per_second: 7,
        healthz_bind_address: "[::1]:10256".parse().unwrap(),
        metrics_bind_address: "".parse().unwrap(),
        per_service_metrics: PerServiceMetrics {
            namespaces: vec!["shop".to_owned(), "pay".to_owned()],
            top: 12,
        },
        log_level: LogLevel::Debug,
        datapath_trace: TraceLevel::Info,
        state_directory: PathBuf::from("/srv/state"),
    };
    assert_eq!(config, expected);
    assert_eq!(
        load_text(&config.to_json().to_string(), &[]),
        Ok(expected),
        "/configz says all of it"
    );
}

#[test]
fn a_file_without_settings_is_the_defaults_and_so_is_no_file() {
    let defaults = Config::for_memory(8 << 30);
    assert_eq!(load("", &[]).unwrap(), defaults);
    assert_eq!(
        Config::from_layers(
            None,
            &AgentFlags::default(),
            8 << 30,
            PortRange::new(32_768, 60_999)
        )
        .unwrap(),
        defaults
    );
}

#[test]
fn flags_override_the_file() {
    let file = "
source: kube
clientConnection: {kubeconfig: /one, apiServers: ['https://one']}
hostnameOverride: one
devices: [eth0]
podDevices: [veth*]
xdpMode: off
bpffs: /one
clusterCIDRs: [10.1.0.0/16]
nodePortAddresses: [primary]
serviceClusterIPRange: [10.2.0.0/16]
serviceNodePortRange: 1000-2000
lbIPRange: [10.3.0.0/16]
healthzBindAddress: 127.0.0.1:1
metricsBindAddress: 127.0.0.1:2
datapathTrace: off
stateDirectory: /one
";
    let arguments = [
        "--source=dir:two",
        "--kubeconfig=two",
        "--api-server=https://two:6443,http://127.0.0.1:8001",
        "--hostname-override=two",
        "--devices=eth1,eth2",
        "--pod-devices=lxc*",
        "--xdp-mode=generic",
        "--bpffs=/two",
        "--cluster-cidr=10.11.0.0/16,fd00:11::/64",
        "--nodeport-addresses=10.0.0.0/8",
        "--service-cluster-ip-range=10.12.0.0/16",
        "--service-node-port-range=3000-4000",
        "--lb-ip-range=10.13.0.0/16",
        "--healthz-bind-address=",
        "--metrics-bind-address=0.0.0.0:9",
        "--datapath-trace=debug",
        "--state-dir=/two",
    ];
    let with_file = load(file, &arguments).unwrap();
    assert_eq!(with_file, load("", &arguments).unwrap());
    assert_eq!(with_file.source, Source::Directory("two".into()));
    assert_eq!(
        with_file.client_connection.kubeconfig.as_deref(),
        Some(Path::new("two"))
    );
    assert_eq!(with_file.client_connection.api_servers.len(), 2);
    assert_eq!(with_file.hostname_override.as_deref(), Some("two"));
    assert_eq!(with_file.devices.len(), 2);
    assert_eq!(with_file.xdp_mode, XdpMode::Generic);
    assert_eq!(with_file.cluster_cidrs.len(), 2);
    assert_eq!(with_file.service_node_port_range.first(), 3000);
    assert_eq!(with_file.state_directory, Path::new("/two"));
    assert_eq!(with_file.healthz_bind_address.address(), None);
    assert_eq!(with_file.metrics_bind_address.to_string(), "0.0.0.0:9");
}

/// Body of the file, flags, and what each line of the refusal must contain.
#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "clusterCIDR: 10.0.0.0/8",
            &[],
            &["lb.yaml:3:1: clusterCIDR: no such field; there are apiVersion, "],
        ),
        (
            "\nconntrack:\n  tcpTimeout: 1s",
            &[],
            &["lb.yaml:5:3: tcpTimeout: no such field; there are tcpSynRecvTimeout"],
        ),
        (
            "mapSizes:\n  flows: 1",
            &[],
            &["lb.yaml:4:3: flows: no such field"],
        ),
        (
            "masqueradeAll: perhaps",
            &[],
            &["lb.yaml:3:16: masqueradeAll: true or false is wanted"],
        ),
        (
            "rejectsPerSecond: -1",
            &[],
            &["lb.yaml:3:19: rejectsPerSecond: a whole number from 0"],
        ),
        (
            "rejectsPerSecond: 4294967296",
            &[],
            &["lb.yaml:3:19: rejectsPerSecond: a whole number from 0"],
        ),
        (
            "mapSizes:\n  # as many as there are\n  services: all",
            &[],
            &["lb.yaml:5:13: mapSizes.services: a whole number from 0"],
        ),
        ("devices: eth0", &[], &["lb.yaml:3:10: devices: a list is wanted"]),
        (
            "source: [kube]",
            &[],
            &["lb.yaml:3:9: source: a single text is wanted"],
        ),
        (
            "source: api",
            &[],
            &["lb.yaml:3:9: source: \"api\" is no source: kube or dir:PATH is wanted"],
        ),
        (
            "source: 'dir:'",
            &[],
            &["lb.yaml:3:9: source: \"dir:\" names no directory"],
        ),
        (
            "clientConnection:\n  apiServers: ['https://a:6443', 'b:6443']",
            &[],
            &[
                "lb.yaml:4:34: clientConnection.apiServers[1]: \"b:6443\" does not begin with https://; https://HOST:6443 is wanted",
            ],
        ),
        (
            "clientConnection: {server: a}",
            &[],
            &["lb.yaml:3:20: server: no such field; there are kubeconfig, apiServers"],
        ),
        (
            "xdpMode: fast",
            &[],
            &["lb.yaml:3:10: xdpMode: \"fast\" is none of auto, native, generic, off"],
        ),
        (
            "sourceAddress: keep\ndatapathTrace: all",
            &[],
            &[
                "lb.yaml:3:16: sourceAddress: \"keep\"",
                "lb.yaml:4:16: datapathTrace: \"all\"",
            ],
        ),
        (
            "clusterCIDRs:\n- 10.0.0.0/8\n- 10.0.0.0/33",
            &[],
            &["lb.yaml:5:3: clusterCIDRs[1]: \"10.0.0.0/33\" is no IP range"],
        ),
        (
            "devices: ['[']",
            &[],
            &["lb.yaml:3:11: devices[0]: \"[\" is no device pattern"],
        ),
        (
            "nodePortAddresses: [primary, 10.0.0.0/8]",
            &[],
            &["lb.yaml:3:21: nodePortAddresses: primary stands alone"],
        ),
        (
            "nodePortAddresses: [first]",
            &[],
            &["nodePortAddresses[0]: \"first\" is neither primary nor an IP range"],
        ),
        (
            "serviceNodePortRange: 30000",
            &[],
            &["lb.yaml:3:23: serviceNodePortRange: \"30000\" is no port range"],
        ),
        (
            "snatPortRange: 32000-32100",
            &[],
            &["lb.yaml:3:16: snatPortRange: 32000-32100 overlaps serviceNodePortRange 30000-32767"],
        ),
        (
            "snatPortRange: 60999-61999",
            &[],
            &[
                "lb.yaml:3:16: snatPortRange: 60999-61999 overlaps the ports this node's own sockets are given (sysctl net.ipv4.ip_local_port_range = 32768 60999)",
            ],
        ),
        (
            "",
            &["--service-node-port-range=61000-61001"],
            &["default: snatPortRange: 61000-65535 overlaps serviceNodePortRange 61000-61001"],
        ),
        (
            "serviceClusterIPRange: [10.1.0.0/16, 10.2.0.0/16]",
            &[],
            &["lb.yaml:3:25: serviceClusterIPRange: more than one IPv4 range"],
        ),
        (
            "clusterCIDRs: [10.0.0.0/8]",
            &["--service-cluster-ip-range=10.96.0.0/16"],
            &[
                "--service-cluster-ip-range: serviceClusterIPRange: 10.96.0.0/16 overlaps 10.0.0.0/8 of clusterCIDRs",
            ],
        ),
        (
            "lbIPRange: [10.96.7.0/24]",
            &[],
            &["lb.yaml:3:13: lbIPRange: 10.96.7.0/24 overlaps 10.96.0.0/12 of serviceClusterIPRange"],
        ),
        (
            "conntrack:\n  udpTimeout: 30",
            &[],
            &["lb.yaml:4:15: conntrack.udpTimeout: \"30\" is no duration"],
        ),
        (
            "conntrack: {udpTimeout: 0s}",
            &[],
            &["conntrack.udpTimeout: 0s is not between 1s and"],
        ),
        (
            "conntrack: {tcpEstablishedTimeout: 600h}",
            &[],
            &["2160000s is not between 1s and 2000000s"],
        ),
        (
            "mapSizes: {flowEntries4: 1000}",
            &[],
            &["lb.yaml:3:26: mapSizes.flowEntries4: 1000 is no power of two"],
        ),
        (
            "mapSizes: {slots: 0}",
            &[],
            &["mapSizes.slots: 0 is not between 1 and"],
        ),
        (
            "hostnameOverride: Node_1",
            &[],
            &["lb.yaml:3:19: hostnameOverride: \"Node_1\" is no Node's name"],
        ),
        (
            "bpffs: relative",
            &[],
            &["lb.yaml:3:8: bpffs: \"relative\" is no absolute path"],
        ),
        (
            "",
            &["--state-dir=relative"],
            &["--state-dir: stateDirectory: \"relative\" is no absolute path"],
        ),
        (
            "healthzBindAddress: '10256'",
            &[],
            &["lb.yaml:3:21: healthzBindAddress: \"10256\" is no address to listen at: IP:PORT is wanted"],
        ),
        (
            "healthzBindAddress: 127.0.0.1:10249",
            &[],
            &[
                "default: metricsBindAddress: 127.0.0.1:10249 and healthzBindAddress 127.0.0.1:10249 are the same port",
            ],
        ),
        (
            "",
            &["--metrics-bind-address=127.0.0.1:10256"],
            &[
                "--metrics-bind-address: metricsBindAddress: 127.0.0.1:10256 and healthzBindAddress 0.0.0.0:10256",
            ],
        ),
        (
            "metrics: {perService: {top: 1001}}",
            &[],
            &["lb.yaml:3:29: metrics.perService.top: 1001 is more than 1000"],
        ),
        (
            "xdpMode: auto\nxdpMode: off",
            &[],
            &["lb.yaml:4:1: xdpMode: given twice"],
        ),
        ("xdpMode: [", &[], &["lb.yaml:"]),
        ("---\nxdpMode: off", &[], &["one YAML document is wanted"]),
    ];
    for (body, arguments, expected) in cases {
        let error = load(body, arguments).expect_err(body);
        let lines: Vec<&str> = error.lines().skip(1).collect();
        assert_eq!(lines.len(), expected.len(), "{body}\n{error}");
        for (line, expected) in lines.iter().zip(*expected) {
            assert!(
                line.contains(expected),
                "{body}\nis refused with  {line}\ninstead of       {expected}"
            );
        }
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let cases = [
        (
            "",
            "lb.yaml: apiVersion: missing; config.xvip.dev/v1alpha1 is wanted",
        ),
        (
            "xdpMode: auto",
            "lb.yaml: apiVersion: missing; config.xvip.dev/v1alpha1 is wanted",
        ),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration",
            "lb.yaml:2:7: kind: \"KubeProxyConfiguration\" is not known; LoadBalancerConfiguration is wanted",
        ),
        ("- a\n- b", "lb.yaml:1:1: a mapping of fields is wanted"),
        ("just words", "lb.yaml:1:1: a mapping of fields is wanted"),
    ];
    for (text, expected) in cases {
        let error = load_text(text, &[]).expect_err(text);
        assert!(error.contains(expected), "{text:?} is refused with {error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/lb.yaml")), &AgentFlags::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/nonexistent/lb.yaml: cannot be read: "),
        "{error}"
    );
}

/// clap checks here that no two flags collide and that every help text can be made.
#[test]
fn the_flags_are_those_of_the_manual() {
    use clap::CommandFactory;

    Command::command().debug_assert();
    let help = Command::command().render_long_help().to_string();
    for flag in [
        "--config",
        "--source",
        "--kubeconfig",
        "--api-server",
        "--hostname-override",
        "--devices",
        "--pod-devices",
        "--xdp-mode",
        "--bpffs",
        "--cluster-cidr",
        "--nodeport-addresses",
        "--service-cluster-ip-range",
        "--service-node-port-range",
        "--lb-ip-range",
        "--state-dir",
        "--healthz-bind-address",
        "--metrics-bind-address",
        "--datapath-trace",
    ] {
        assert!(help.contains(&format!("{flag} <")), "{flag} is not in\n{help}");
    }
}

#[test]
fn flags_with_impossible_values_are_refused_by_name() {
    for argument in [
        "--source=x",
        "--api-server=10.0.0.1:6443",
        "--xdp-mode=x",
        "--cluster-cidr=x",
        "--service-node-port-range=x",
        "--devices=[",
        "--healthz-bind-address=10256",
        "--metrics-bind-address=localhost:1",
    ] {
        let Err(error) = Command::try_parse_from(["agent", argument]) else {
            panic!("{argument} is taken");
        };
        let name = argument.split('=').next().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_api_server_is_a_scheme_a_host_and_a_port() {
    for url in [
        "https://a",
        "https://192.0.2.1:6443/",
        "https://[2001:db8::1]:6443",
        "http://127.0.0.1:8001",
    ] {
        assert!(url.parse::<ApiServer>().is_ok(), "{url}");
    }
    for (url, expected) in [
        ("", "is no URL"),
        ("https://", "is no URL"),
        ("https://:6443", "names no host"),
        ("https://a:", "has no port"),
        ("https://a b", "is no URL"),
        ("https://a:66666", "has no port"),
        ("https://a:0", "has no port"),
        ("a", "does not begin with https://"),
        ("192.0.2.1:6443", "does not begin with https://"),
        ("ftp://a", "does not begin with https://"),
        ("https://a/api", "goes on after the host"),
        ("https://a?b", "goes on after the host"),
        ("https://a#b", "goes on after the host"),
    ] {
        let refusal = url.parse::<ApiServer>().expect_err(url);
        assert!(refusal.starts_with(&format!("{url:?} {expected}")), "{refusal}");
    }
    let refusal = "https://me:secret@a:6443".parse::<ApiServer>().unwrap_err();
    assert!(
        refusal.contains("user") && !refusal.contains("secret"),
        "{refusal}"
    );
}

#[test]
fn an_empty_kubeconfig_is_none() {
    let config = load("clientConnection: {kubeconfig: \"\"}", &[]).unwrap();
    assert_eq!(config.client_connection, ClientConnection::default());
}

#[test]
fn the_local_port_range_is_read_as_the_kernel_writes_it() {
    assert_eq!(
        local_ports_of_sysctl("32768\t60999\n"),
        PortRange::new(32_768, 60_999)
    );
    assert_eq!(local_ports_of_sysctl("nonsense"), None);
}

/// The reference that people copy from.
const REFERENCE: &str = include_str!("../../../docs/configuration.yaml");

#[test]
fn the_reference_holds_the_defaults() {
    assert_eq!(load_text(REFERENCE, &[]), Ok(Config::for_memory(8 << 30)));
}

#[test]
fn the_reference_names_every_field() {
    for (section, prefix) in [
        ("", ""),
        ("clientConnection:\n", "  "),
        ("conntrack:\n", "  "),
        ("mapSizes:\n", "  "),
        ("metrics:\n", "  "),
        ("metrics:\n  perService:\n", "    "),
    ] {
        let refusal = load(&format!("{section}{prefix}nonsense: 1\n"), &[]).unwrap_err();
        let (_, fields) = refusal
            .split_once("there are ")
            .expect("the refusal lists the fields");
        for field in fields.trim().split(", ") {
            assert!(REFERENCE.contains(&format!("{field}:")), "{field} is missing");
        }
    }
}

/// S24: what nobody serves is dropped in ranges that are known; a cluster of its own has other defaults than ours.
#[test]
fn the_range_of_cluster_ips_is_known_where_it_was_given_or_is_allocated_from() {
    let known = |body: &str| load(body, &[]).unwrap().known_service_ranges().to_vec();
    let nets = |text: &str| vec![text.parse::<IpNet>().unwrap()];
    let given = "serviceClusterIPRange: [10.100.0.0/16]\n";
    assert_eq!(known("source: kube\n"), Vec::<IpNet>::new());
    assert_eq!(known(&format!("source: kube\n{given}")), nets("10.100.0.0/16"));
    assert_eq!(known(&format!("source: dir:/m\n{given}")), nets("10.100.0.0/16"));
    assert_eq!(known("source: dir:/m\n").len(), 2, "the defaults");
}
