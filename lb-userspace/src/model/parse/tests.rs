//! The rules S1 to S10 and S26, as tables.

use std::time::{Duration, UNIX_EPOCH};

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::{Value, json};

use super::{Parsed, endpoint_slice, node, service};
use crate::model::{EndpointSlice, IpFamily, Protocol, Service, ServiceType, Skip, TrafficPolicy};

/// Lays `changes` over `base`; null removes.
fn patched(mut base: Value, changes: &Value) -> Value {
    match (&mut base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    base.remove(key);
                } else {
                    let old = base.remove(key).unwrap_or(Value::Null);
                    base.insert(key.clone(), patched(old, change));
                }
            }
        }
        _ => base.clone_from(changes),
    }
    base
}

fn parse_service(changes: &Value) -> Result<Parsed<Service>, String> {
    let base = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "n", "name": "s"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.5", "ports": [{"port": 80}]},
    });
    let object: v1::Service = serde_json::from_value(patched(base, changes)).unwrap();
    service(&object).map_err(|rejection| rejection.to_string())
}

fn accepted(changes: &Value) -> (Service, Vec<String>) {
    match parse_service(changes) {
        Ok(Parsed::Accepted { value, warnings }) => {
            (value, warnings.iter().map(ToString::to_string).collect())
        }
        other => panic!("{changes}: {other:?}"),
    }
}

fn parse_slice(changes: &Value) -> Result<Parsed<EndpointSlice>, String> {
    let base = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "n", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    });
    let object: discovery::EndpointSlice = serde_json::from_value(patched(base, changes)).unwrap();
    endpoint_slice(&object).map_err(|rejection| rejection.to_string())
}

fn accepted_slice(changes: &Value) -> (EndpointSlice, Vec<String>) {
    match parse_slice(changes) {
        Ok(Parsed::Accepted { value, warnings }) => {
            (value, warnings.iter().map(ToString::to_string).collect())
        }
        other => panic!("{changes}: {other:?}"),
    }
}

/// S1, S26.
#[test]
fn services_of_no_concern_are_skipped() {
    let cases = [
        (json!({"spec": {"clusterIP": "None"}}), Skip::Headless),
        (json!({"spec": {"clusterIP": null}}), Skip::NoClusterIp),
        (json!({"spec": {"clusterIP": ""}}), Skip::NoClusterIp),
        // Even with a cluster IP (S1).
        (json!({"spec": {"type": "ExternalName"}}), Skip::ExternalName),
        (
            json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}}),
            Skip::OtherProxy("other".to_owned()),
        ),
    ];
    for (changes, skip) in cases {
        assert_eq!(parse_service(&changes), Ok(Parsed::Skipped(skip)), "{changes}");
    }
}

#[test]
fn a_service_with_everything_comes_out_whole() {
    let (service, warnings) = accepted(&json!({
        "metadata": {"creationTimestamp": "2026-01-02T03:04:05Z", "annotations": {"xvip.dev/exclude": "true"}},
        "spec": {
            "type": "LoadBalancer",
            "clusterIPs": ["10.96.0.5", "fd00::5"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 53, "protocol": "UDP"},
                      {"name": "c", "port": 9, "protocol": "SCTP"}],
            "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 31000,
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
        },
    }));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(service.key.to_string(), "n/s");
    assert_eq!(service.service_type, ServiceType::LoadBalancer);
    assert_eq!(service.cluster_ip(IpFamily::V6), Some("fd00::5".parse().unwrap()));
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| (port.protocol, port.port, port.node_port))
        .collect();
    assert_eq!(
        ports,
        [
            (Protocol::Tcp, 80, Some(30_080)),
            (Protocol::Udp, 53, None),
            (Protocol::Sctp, 9, None)
        ]
    );
    assert_eq!(service.internal_traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.external_traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.health_check_node_port, Some(31_000));
    assert_eq!(service.session_affinity.map(|timeout| timeout.as_secs()), Some(5));
    let created = service.created.unwrap().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(created.as_secs(), 1_767_323_045);
    assert!(service.excluded);
}

#[test]
fn node_ports_count_only_where_the_type_has_them() {
    for (kind, expected) in [
        ("ClusterIP", None),
        ("NodePort", Some(30_080)),
        ("LoadBalancer", Some(30_080)),
    ] {
        let (service, _) =
            accepted(&json!({"spec": {"type": kind, "ports": [{"port": 80, "nodePort": 30080}]}}));
        assert_eq!(service.ports[0].node_port, expected, "{kind}");
    }
    let (service, _) =
        accepted(&json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 0}]}}));
    assert_eq!(service.ports[0].node_port, None);
    // A health check belongs to a load balancer with a Local policy.
    let (service, _) = accepted(&json!({"spec": {"type": "LoadBalancer", "healthCheckNodePort": 31000}}));
    assert_eq!(service.health_check_node_port, None);
}

/// S7, S8.
#[test]
fn outside_addresses_are_read_leniently_and_never_fatal() {
    let (service, warnings) = accepted(&json!({
        "spec": {
            "externalIPs": ["192.000.002.001", " 2001:db8::1 ", "192.0.2.1", "nonsense"],
            "loadBalancerSourceRanges": [" 10.1.2.3/8", "fd00::/8", "10.0.0.0/40"],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.2"}, {"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.3", "ipMode": "Proxy"},
            {"hostname": "lb.example.org"}, {"ip": "203.0.113.x"},
        ]}},
    }));
    let text = |items: &[std::net::IpAddr]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&service.external_ips), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(text(&service.load_balancer_vips), ["203.0.113.1", "203.0.113.2"]);
    let ranges: Vec<String> = service
        .load_balancer_source_ranges
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ranges, ["10.0.0.0/8", "fd00::/8"]);
    assert_eq!(
        warnings,
        [
            "spec.externalIPs[3]: ignored: \"nonsense\" is not a valid IP address",
            "status.loadBalancer.ingress[4].ip: ignored: \"203.0.113.x\" is not a valid IP address",
            "spec.loadBalancerSourceRanges[2]: ignored: \"10.0.0.0/40\" is not a valid CIDR value",
        ]
    );
}

/// S45.
#[test]
fn only_the_word_true_excludes_a_service() {
    for (annotations, excluded) in [
        (json!(null), false),
        (json!({"other": "true"}), false),
        (json!({"xvip.dev/exclude": "false"}), false),
        (json!({"xvip.dev/exclude": "true"}), true),
    ] {
        let (service, _) = accepted(&json!({"metadata": {"annotations": annotations}}));
        assert_eq!(service.excluded, excluded, "{annotations}");
    }
}

#[test]
fn what_is_empty_is_as_good_as_absent() {
    let (service, warnings) = accepted(&json!({
        "spec": {"clusterIPs": []},
        "status": {"loadBalancer": {"ingress": [{"ip": "", "hostname": "lb.example.org"}]}},
    }));
    assert_eq!(
        service.cluster_ips,
        ["10.96.0.5".parse::<std::net::IpAddr>().unwrap()]
    );
    assert!(service.load_balancer_vips.is_empty());
    assert_eq!(warnings, [""; 0]);
    let (slice, _) = accepted_slice(&json!({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": ""}]}));
    assert_eq!(slice.endpoints[0].node_name, None);
    let labels = json!({"topology.kubernetes.io/zone": ""});
    let object: v1::Node =
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}})).unwrap();
    let Ok(Parsed::Accepted { value, .. }) = node(&object) else {
        panic!("{:?}", node(&object))
    };
    assert_eq!(value.zone, None);
}

#[test]
fn values_no_api_server_stores_are_refused_whole() {
    let cases = [
        (
            json!({"spec": {"clusterIP": "banana"}}),
            "spec.clusterIPs[0]: Invalid value: \"banana\"",
        ),
        (
            json!({"spec": {"clusterIPs": ["10.0.0.1", "10.0.0.2"]}}),
            "spec.clusterIPs[1]: Invalid value",
        ),
        (
            json!({"spec": {"type": "Banana"}}),
            "spec.type: Unsupported value: \"Banana\"",
        ),
        (
            json!({"spec": {"ports": [{"port": 0}]}}),
            "spec.ports[0].port: Invalid value: 0",
        ),
        (
            json!({"spec": {"ports": [{"port": 65536}]}}),
            "spec.ports[0].port: Invalid value: 65536",
        ),
        (
            json!({"spec": {"ports": [{"port": 1, "protocol": "ICMP"}]}}),
            "spec.ports[0].protocol: Unsupported",
        ),
        (
            json!({"spec": {"internalTrafficPolicy": "Near"}}),
            "spec.internalTrafficPolicy: Unsupported",
        ),
        (
            json!({"spec": {"sessionAffinity": "Cookie"}}),
            "spec.sessionAffinity: Unsupported",
        ),
        (
            json!({"metadata": {"name": null}}),
            "metadata.name: Required value",
        ),
    ];
    for (changes, words) in cases {
        let rejection = parse_service(&changes).expect_err("refused");
        assert!(rejection.contains(words), "{rejection}");
    }
}

/// S2.
#[test]
fn slices_of_no_concern_are_skipped() {
    let cases = [
        (
            json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}}),
            Skip::HeadlessSlice,
        ),
        (json!({"metadata": {"labels": null}}), Skip::NoServiceLabel),
        (
            json!({"metadata": {"labels": {"kubernetes.io/service-name": ""}}}),
            Skip::NoServiceLabel,
        ),
        (json!({"addressType": "FQDN"}), Skip::Fqdn),
    ];
    for (changes, skip) in cases {
        assert_eq!(parse_slice(&changes), Ok(Parsed::Skipped(skip)), "{changes}");
    }
}

/// S3: absent conditions are ready and serving, whatever the other one says, and not terminating.
#[test]
fn absent_conditions_have_their_own_defaults() {
    let cases = [
        (json!({}), (true, true, false)),
        (json!({"ready": false}), (false, true, false)),
        (json!({"serving": false}), (true, false, false)),
        (
            json!({"ready": false, "serving": true, "terminating": true}),
            (false, true, true),
        ),
    ];
    for (conditions, expected) in cases {
        let (slice, _) =
            accepted_slice(&json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}));
        let endpoint = &slice.endpoints[0];
        assert_eq!(
            (endpoint.ready, endpoint.serving, endpoint.terminating),
            expected,
            "{conditions}"
        );
    }
}

/// S4.
#[test]
fn ports_without_name_or_number_are_ignored() {
    let (slice, _) = accepted_slice(&json!({"ports": [
        {"port": 80}, {"name": "a"}, {"name": "b", "port": 0}, {"name": "c", "port": 81, "protocol": "UDP"},
        {"name": "", "port": 82},
    ]}));
    let ports: Vec<_> = slice
        .ports
        .iter()
        .map(|port| (port.name.as_str(), port.protocol, port.port))
        .collect();
    assert_eq!(ports, [("", Protocol::Tcp, 82), ("c", Protocol::Udp, 81)]);
    assert!(parse_slice(&json!({"ports": [{"name": "a", "port": 70000}]})).is_err());
}

/// S2.
#[test]
fn only_the_first_address_of_an_endpoint_counts_and_a_bad_one_costs_only_itself() {
    let (slice, warnings) = accepted_slice(&json!({"endpoints": [
        {"addresses": ["10.0.0.1", "10.0.0.2"], "nodeName": "n1", "zone": "z",
         "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n1"}, {"name": "n2"}]}},
        {"addresses": ["fd00::1"]},
        {"addresses": ["nonsense"]},
        {"addresses": []},
        {"addresses": ["10.0.0.3"]},
    ]}));
    let addresses: Vec<String> = slice
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(slice.endpoints[0].node_name.as_deref(), Some("n1"));
    assert_eq!(slice.endpoints[0].zone_hints.iter().collect::<Vec<_>>(), ["z"]);
    assert_eq!(slice.endpoints[0].node_hints.len(), 2);
    assert!(slice.endpoints[1].zone_hints.is_empty());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(slice.service.to_string(), "n/s");
}

/// S10, S30.
#[test]
fn a_node_has_its_zone_and_its_internal_addresses_in_order() {
    let object: v1::Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}},
        "status": {"addresses": [
            {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.9"},
            {"type": "ExternalIP", "address": "203.0.113.9"}, {"type": "InternalIP", "address": "2001:db8::9"},
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "192.0.2.9"},
        ]},
    }))
    .unwrap();
    let Ok(Parsed::Accepted { value, warnings }) = node(&object) else {
        panic!("{:?}", node(&object))
    };
    let ips: Vec<String> = value.internal_ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["192.0.2.9", "2001:db8::9", "192.0.2.1"]);
    assert_eq!(
        (value.name.as_str(), value.zone.as_deref(), warnings.len()),
        ("n1", Some("z"), 0)
    );
}

/// S41.
#[test]
fn a_node_is_leaving_while_it_is_deleted_or_the_autoscaler_says_so() {
    let cases = [
        (json!({}), false),
        (
            json!({"metadata": {"deletionTimestamp": "2026-11-20T12:00:00Z"}}),
            true,
        ),
        (
            json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}),
            false,
        ),
        (
            json!({"spec": {"taints": [
                {"key": "other", "effect": "NoSchedule"},
                {"key": "ToBeDeletedByClusterAutoscaler", "value": "1700000000", "effect": "NoSchedule"},
            ]}}),
            true,
        ),
    ];
    for (changes, expected) in cases {
        let base = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        let object: v1::Node = serde_json::from_value(patched(base, &changes)).unwrap();
        let Ok(Parsed::Accepted { value, .. }) = node(&object) else {
            panic!("{:?}", node(&object))
        };
        assert_eq!(value.leaving, expected, "{changes}");
    }
}

#[test]
fn a_slice_says_what_change_triggered_it() {
    let at = |text: &str| {
        let annotations = json!({"endpoints.kubernetes.io/last-change-trigger-time": text});
        accepted_slice(&json!({"metadata": {"annotations": annotations}}))
            .0
            .triggered
    };
    let expected = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    assert_eq!(at("2023-11-14T22:13:20.25Z"), Some(expected));
    assert_eq!(at("2023-11-14T23:13:20.25+01:00"), Some(expected));
    assert_eq!(at("yesterday"), None);
    assert_eq!(accepted_slice(&json!({})).0.triggered, None);
}
