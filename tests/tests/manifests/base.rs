//! The parts fit each other and the agent.

use std::path::Path;

use clap::Parser;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lb_userspace::cli::{Cli, Verb};
use lb_userspace::config::{AgentFlags, Config, Source};

use crate::files::Base;

fn pod(base: &Base) -> &PodSpec {
    let spec = base.daemon_set.spec.as_ref().expect("a spec");
    spec.template.spec.as_ref().expect("a pod's spec")
}

fn container(base: &Base) -> &Container {
    let [container] = pod(base).containers.as_slice() else {
        panic!("one container");
    };
    container
}

#[test]
fn the_agent_accepts_its_configuration() {
    let base = Base::read();
    let file = Some((Path::new("config.yaml"), base.config.as_str()));
    let config = Config::from_layers(file, &AgentFlags::default(), 8 << 30, None).unwrap();
    assert_eq!(config.source, Source::Kube);

    // What stands there as an example is one.
    let text = base.config.replace("# clientConnection", "clientConnection");
    let text = text.replace("#   apiServers", "  apiServers");
    let file = Some((Path::new("config.yaml"), text.as_str()));
    let config = Config::from_layers(file, &AgentFlags::default(), 8 << 30, None).unwrap();
    assert_eq!(config.client_connection.api_servers.len(), 2);
}

#[test]
fn the_agent_is_asked_whether_it_is_ready_where_it_listens() {
    let base = Base::read();
    let file = Some((Path::new("config.yaml"), base.config.as_str()));
    let config = Config::from_layers(file, &AgentFlags::default(), 8 << 30, None).unwrap();
    let probe = container(&base).readiness_probe.as_ref().expect("a probe");
    let question = probe.http_get.as_ref().expect("over HTTP");
    assert_eq!(question.path.as_deref(), Some("/livez"));
    let listens = config.healthz_bind_address.address().expect("an address");
    assert_eq!(question.port, IntOrString::Int(listens.port().into()));
}

#[test]
fn the_command_line_accepts_the_arguments() {
    let base = Base::read();
    let container = container(&base);
    let arguments = container.args.iter().flatten();
    let line = std::iter::once("xvip").chain(arguments.map(String::as_str));
    let cli = Cli::try_parse_from(line).unwrap();
    assert!(matches!(cli.verb, Verb::Agent(_)));

    let names = container.env.iter().flatten().map(|variable| &variable.name);
    for name in names {
        let reference = format!("$({name})");
        assert!(
            container
                .args
                .iter()
                .flatten()
                .any(|argument| argument.contains(&reference)),
            "{name} is not used"
        );
    }
}

#[test]
fn the_pod_is_who_the_role_is_bound_to() {
    let base = Base::read();
    let account = base.account.metadata.name.as_deref();
    assert_eq!(pod(&base).service_account_name.as_deref(), account);
    let [subject] = base.binding.subjects.as_deref().unwrap_or_default() else {
        panic!("one subject");
    };
    assert_eq!(
        (subject.kind.as_str(), Some(subject.name.as_str())),
        ("ServiceAccount", account)
    );
    assert_eq!(
        subject.namespace.as_deref(),
        Some(base.kustomization.namespace.as_str())
    );
    assert_eq!(base.binding.role_ref.kind, "ClusterRole");
    assert_eq!(
        Some(&base.binding.role_ref.name),
        base.role.metadata.name.as_ref()
    );
}

#[test]
fn the_daemon_set_selects_its_pods_and_mounts_what_is_there() {
    let base = Base::read();
    let spec = base.daemon_set.spec.as_ref().unwrap();
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.as_ref());
    assert_eq!(spec.selector.match_labels.as_ref(), labels);

    let volumes = pod(&base).volumes.as_deref().unwrap_or_default();
    let mounts = container(&base).volume_mounts.as_deref().unwrap_or_default();
    let mut mounted: Vec<&str> = mounts.iter().map(|mount| mount.name.as_str()).collect();
    let mut declared: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    mounted.sort_unstable();
    declared.sort_unstable();
    assert_eq!(mounted, declared);

    let maps = volumes.iter().filter_map(|volume| volume.config_map.as_ref());
    let maps: Vec<&str> = maps.map(|map| map.name.as_str()).collect();
    let generated = base.kustomization.config_map_generator.iter();
    assert_eq!(maps, generated.map(|map| map.name.as_str()).collect::<Vec<_>>());
}

#[test]
fn what_the_agent_keeps_is_kept_outside_the_container() {
    let base = Base::read();
    let file = Some((Path::new("config.yaml"), base.config.as_str()));
    let config = Config::from_layers(file, &AgentFlags::default(), 8 << 30, None).unwrap();
    let volumes = pod(&base).volumes.as_deref().unwrap_or_default();
    for kept in [&config.bpffs, &config.state_directory] {
        let mounts = container(&base).volume_mounts.iter().flatten();
        let mount = mounts
            .filter(|mount| kept.starts_with(&mount.mount_path))
            .max_by_key(|mount| mount.mount_path.len())
            .unwrap_or_else(|| panic!("{} is not mounted", kept.display()));
        let host = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .and_then(|volume| volume.host_path.as_ref());
        assert_eq!(host.map(|host| &host.path), Some(&mount.mount_path));
    }
}

#[test]
fn the_image_is_this_version() {
    let base = Base::read();
    let expected = format!("xvip:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container(&base).image.as_deref(), Some(expected.as_str()));
}
