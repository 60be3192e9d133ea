//! Debian's package manager: what it offers, and installing it.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    host,
    step::{line, output, run, step},
    toolchain::major_minor,
};

/// The names Debian gives the compiler and its `core` for the BPF targets: the first pair in releases that carry
/// a newer compiler beside their own, the second in backports and later releases.
const COMPILER_PACKAGES: &[[&str; 2]] = &[
    ["rustc-web", "libstd-rust-web-dev-bpf"],
    ["rustc", "libstd-rust-dev-bpf"],
];

/// Packages to install from one suite (`bookworm-security`), or from wherever apt finds them.
pub(crate) struct Request {
    suite: Option<String>,
    packages: Vec<String>,
}

impl Request {
    /// LLVM as bpf-linker is linked to it. It needs only the shared library, which brings its own dependencies.
    pub(crate) fn llvm(major: u32) -> Self {
        Self {
            suite: None,
            packages: vec![format!("llvm-{major}-dev")],
        }
    }

    /// The compiler packages of the first suite whose version is new enough; `None` if there are none.
    pub(crate) fn compiler() -> Result<Option<Self>> {
        for pair in COMPILER_PACKAGES {
            let offers = output(Command::new("apt-cache").arg("madison").args(pair))?;
            if let Some(suite) = common_suite(&offers, pair) {
                let packages = pair.iter().map(ToString::to_string).collect();
                return Ok(Some(Self {
                    suite: Some(suite),
                    packages,
                }));
            }
        }
        Ok(None)
    }

    /// What a person would type.
    pub(crate) fn command_line(&self) -> String {
        format!("sudo apt-get update && sudo {}", line(&self.command()))
    }

    /// Installs the packages; as root.
    pub(crate) fn install(&self) -> Result<()> {
        step(&line(&self.command()), || {
            run(self
                .command()
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(std::io::stderr()))
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
        if let Some(suite) = &self.suite {
            command.args(["--target-release", suite]);
        }
        command.args(&self.packages);
        command
    }
}

/// Whether this is a system of apt's.
pub(crate) fn is_here() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Refreshes the package lists; as root.
pub(crate) fn update() -> Result<()> {
    step("apt-get update", || {
        run(Command::new("apt-get").arg("update").stdout(std::io::stderr()))
    })
}

/// Fails with the line to type if packages cannot be installed by this user.
pub(crate) fn require_root(request: &Request, purpose: &str) -> Result<()> {
    if !host::is_root() {
        bail!(
            "{purpose} has to be installed, which takes root. Type:\n\n    {}\n",
            request.command_line()
        );
    }
    Ok(())
}

/// The suite that offers all of `packages` in a version this workspace can be built with.
///
/// `offers` is what `apt-cache madison` prints: `package | version | mirror suite/component arch Packages`.
fn common_suite(offers: &str, packages: &[&str]) -> Option<String> {
    let needed = major_minor(env!("CARGO_PKG_RUST_VERSION"))?;
    let offers: Vec<(&str, &str)> = offers
        .lines()
        .filter_map(|offer| {
            let mut columns = offer.split('|').map(str::trim);
            let (package, version, source) = (columns.next()?, columns.next()?, columns.next()?);
            let (suite, _) = source.split_whitespace().nth(1)?.split_once('/')?;
            (major_minor(version)? >= needed).then_some((package, suite))
        })
        .collect();
    let (_, suite) = offers.iter().find(|(_, suite)| {
        packages
            .iter()
            .all(|package| offers.contains(&(*package, *suite)))
    })?;
    Some((*suite).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offers: &str, expected: Option<&str>) {
        assert_eq!(
            common_suite(offers, &["rustc", "libstd-rust-dev-bpf"]).as_deref(),
            expected
        );
    }

    #[test]
    fn the_suite_with_both_packages_new_enough_is_chosen() {
        check(
            "rustc | 1.63.0+dfsg1-2 | http://deb.debian.org/debian bookworm/main amd64 Packages\n\
             rustc | 1.96.0+dfsg1-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages\n\
             libstd-rust-dev-bpf | 1.96.0+dfsg1-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages\n",
            Some("trixie-backports"),
        );
    }

    #[test]
    fn packages_of_different_suites_are_not_mixed() {
        check(
            "rustc | 1.96.0 | http://deb.debian.org/debian sid/main amd64 Packages\n\
             libstd-rust-dev-bpf | 1.96.0 | http://deb.debian.org/debian trixie-backports/main amd64 Packages\n",
            None,
        );
    }

    #[test]
    fn an_old_compiler_is_not_offered() {
        check(
            "rustc | 1.85.0 | http://deb.debian.org/debian trixie/main amd64 Packages\n\
             libstd-rust-dev-bpf | 1.85.0 | http://deb.debian.org/debian trixie/main amd64 Packages\n",
            None,
        );
        check("", None);
    }
}
