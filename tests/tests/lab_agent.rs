//! Running `xvip` in the lab, with a shell script in its place: what counts here is how it is run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lab::agent::Agent;
use lab::netns::Netns;
use lab::scratch;

/// Ready at once; ends in order on SIGTERM; counts its starts in a file beside its pins.
const OBEDIENT: &str = r#"
trap 'echo ending; exit 0' TERM
echo "arguments: $*"
echo "$$" >> "$5/../starts"
echo "INFO xvip: ready" >&2
while :; do read -t 0.05 _ <> <(:); done
"#;

fn script(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("xvip");
    fs::write(&path, format!("#!/bin/bash\n{body}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn starts(agent: &Agent) -> usize {
    fs::read_to_string(agent.bpffs().join("../starts"))
        .unwrap()
        .lines()
        .count()
}

#[test]
fn an_agent_is_started_killed_restarted_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let binary = script(dir.path(), OBEDIENT);
    let ns = Netns::new("node").unwrap();
    let mut agent =
        Agent::start_binary(&binary, &ns, Path::new("/manifests"), &["--xdp-mode", "native"]).unwrap();
    agent.wait_ready().unwrap();
    let expected = format!(
        "arguments: agent --source dir:/manifests --bpffs {} --xdp-mode native",
        agent.bpffs().display()
    );
    assert!(agent.log().contains(&expected), "{}", agent.log());

    agent.kill9().unwrap();
    assert_eq!(agent.pid(), None);
    agent.restart().unwrap();
    agent.wait_ready().unwrap();
    assert_eq!(starts(&agent), 2);

    agent.stop().unwrap();
    assert!(agent.log().contains("ending"));
}

#[test]
fn an_agent_that_fails_to_start_is_reported_with_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let binary = script(dir.path(), "echo 'no such flag --frobnicate' >&2; exit 2");
    let ns = Netns::new("node").unwrap();
    let mut agent = Agent::start_binary(&binary, &ns, dir.path(), &[]).unwrap();
    let error = format!("{:#}", agent.wait_ready().unwrap_err());
    assert!(
        error.contains("exit status: 2") && error.contains("--frobnicate"),
        "{error}"
    );
}

#[test]
fn nothing_of_an_agent_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let binary = script(dir.path(), OBEDIENT);
    let ns = Netns::new("node").unwrap();
    let mut agent = Agent::start_binary(&binary, &ns, dir.path(), &[]).unwrap();
    agent.wait_ready().unwrap();
    let (bpffs, pid) = (agent.bpffs().to_owned(), agent.pid().unwrap());
    fs::create_dir(bpffs.join("pins")).unwrap();
    drop(agent);
    assert!(!bpffs.parent().unwrap().exists());
    assert!(
        !fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .contains(bpffs.to_str().unwrap())
    );
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn leftovers_of_dead_labs_are_swept_and_those_of_living_ones_are_not() {
    let ns = Netns::new("alive").unwrap();
    // A pid above the kernel's limit stands for a process that is gone.
    let dead = Path::new("/run/netns/xvl-4194305-0-dead");
    fs::write(dead, "").unwrap();
    scratch::sweep();
    assert!(!dead.exists());
    assert!(Path::new("/run/netns").join(ns.name()).exists());
}
