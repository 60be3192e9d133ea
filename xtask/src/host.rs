//! What the kernel and this user's rights allow: tests, demo and benchmarks make network namespaces and load
//! programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether this process may make namespaces and load programs.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Prints what was found, with a line on each thing that is missing. Nothing of it stops a build.
pub(crate) fn describe() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    eprintln!("    kernel   {}", release.trim());
    for (present, consequence) in [
        (
            Path::new("/sys/kernel/btf/vmlinux").exists(),
            "no type information (CONFIG_DEBUG_INFO_BTF): programs cannot be loaded",
        ),
        (
            filesystem("bpf"),
            "no bpf file system (CONFIG_BPF_SYSCALL): maps cannot be pinned",
        ),
        (
            filesystem("cgroup2"),
            "no cgroup v2: socket hooks cannot be attached",
        ),
        (
            Path::new("/proc/self/ns/net").exists(),
            "no network namespaces (CONFIG_NET_NS): tests and demo cannot run",
        ),
        (
            is_root(),
            "not root: programs build, but tests, demo and benchmarks cannot load them",
        ),
    ] {
        if !present {
            eprintln!("    note: {consequence}");
        }
    }
}

/// A program on PATH.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn filesystem(name: &str) -> bool {
    fs::read_to_string("/proc/filesystems").is_ok_and(|list| {
        list.lines()
            .any(|line| line.split_whitespace().last() == Some(name))
    })
}
