//! `cargo xtask setup`: what building the kernel programs takes, found or installed.
//!
//! There are two sources of a compiler, Debian's packages and rustup's `rust-src`; either will do. The linker
//! is built from crates.io against the LLVM of the compiler's version.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt, host,
    step::{cargo, output, run, step},
    toolchain::{
        BPF_LINKER_VERSION, Compiler, Core, LINKER_OVERRIDE, Missing, RUSTC_OVERRIDE, Toolchain, linker_root,
    },
};

/// Finds the tools, installing what is missing; prints what it found.
pub(crate) fn setup() -> Result<Toolchain> {
    step("setup", || {
        let tools = find_or_install()?;
        describe(&tools);
        host::describe();
        Ok(tools)
    })
}

/// Each round installs one missing part, so two rounds are all it can take.
fn find_or_install() -> Result<Toolchain> {
    for _ in 0..2 {
        match Toolchain::find() {
            Ok(tools) => return Ok(tools),
            Err(missing) => {
                eprintln!("    {missing}");
                match missing {
                    Missing::Compiler => install_compiler()?,
                    Missing::Linker(compiler, _) => install_linker(&compiler)?,
                }
            }
        }
    }
    Toolchain::find().map_err(|missing| anyhow::anyhow!("after installing it, {missing}"))
}

fn describe(tools: &Toolchain) {
    let core = match tools.compiler.core {
        Core::Prebuilt => "prebuilt",
        Core::FromSource => "from rust-src",
    };
    eprintln!(
        "    compiler {} (LLVM {}, core {core})",
        tools.compiler.rustc.display(),
        tools.compiler.llvm_major
    );
    eprintln!("    linker   {}", tools.linker.display());
}

fn install_compiler() -> Result<()> {
    if std::env::var_os(RUSTC_OVERRIDE).is_some() {
        bail!("the compiler that {RUSTC_OVERRIDE} names does not do; unset it to have one installed");
    }
    let root = host::is_root();
    let mut lines = Vec::new();
    if apt::is_here() {
        if root {
            apt::update()?;
        }
        if let Some(request) = apt::Request::compiler()? {
            if root {
                return request.install();
            }
            lines.push(request.command_line());
        }
    }
    if host::which("rustup").is_some() {
        let mut rustup = Command::new("rustup");
        rustup
            .args(["component", "add", "rust-src"])
            .stdout(std::io::stderr());
        match step("rustup component add rust-src", || run(&mut rustup)) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("    {error:#}"),
        }
    }
    lines.push("rustup component add rust-src".to_owned());
    bail!(
        "a compiler has to be installed. Type one of:\n\n    {}\n",
        lines.join("\n    ")
    );
}

fn install_linker(compiler: &Compiler) -> Result<()> {
    if std::env::var_os(LINKER_OVERRIDE).is_some() {
        bail!("the linker that {LINKER_OVERRIDE} names does not run; unset it to have one built");
    }
    let major = compiler.llvm_major;
    let llvm = match llvm_prefix(major) {
        Some(prefix) => prefix,
        None => {
            install_llvm(major)?;
            llvm_prefix(major)
                .with_context(|| format!("LLVM {major} was installed but llvm-config is not there"))?
        }
    };
    let root = linker_root(major);
    // Cargo would advise to add the directory to PATH, which is not needed.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&path).chain([root.join("bin")]))?;
    step(
        &format!("build bpf-linker {BPF_LINKER_VERSION} with LLVM {major} (once, about a minute)"),
        || {
            run(cargo()
                // Away from the workspace: its configuration is not the linker's.
                .current_dir("/")
                .args([
                    "install",
                    "bpf-linker",
                    "--locked",
                    "--force",
                    "--version",
                    BPF_LINKER_VERSION,
                ])
                .args([
                    "--no-default-features",
                    "--features",
                    &format!("llvm-{major}"),
                    "--root",
                ])
                .arg(&root)
                .env_remove("CARGO_TARGET_DIR")
                .env("PATH", path)
                .env("LLVM_PREFIX", &llvm)
                .stdout(std::io::stderr()))
        },
    )
}

fn install_llvm(major: u32) -> Result<()> {
    if !apt::is_here() {
        bail!(
            "bpf-linker is built against LLVM {major}: install its shared library, or name a linker of at \
             least that LLVM in {LINKER_OVERRIDE}"
        );
    }
    let request = apt::Request::llvm(major);
    apt::require_root(
        &request,
        &format!("LLVM {major}, which bpf-linker is built against,"),
    )?;
    apt::update()?;
    request.install()
}

/// Where LLVM of that version has the library that bpf-linker is linked to.
fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let names = [
        std::env::var_os("LLVM_PREFIX").map(|prefix| Path::new(&prefix).join("bin/llvm-config")),
        Some(PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-config"))),
        Some(PathBuf::from(format!("llvm-config-{major}"))),
        Some(PathBuf::from("llvm-config")),
    ];
    names.into_iter().flatten().find_map(|llvm_config| {
        let version = output(Command::new(&llvm_config).arg("--version")).ok()?;
        if version.split('.').next()? != major.to_string() {
            return None;
        }
        let prefix = PathBuf::from(output(Command::new(&llvm_config).arg("--prefix")).ok()?.trim());
        // Debian's `llvm-N` has the tool without the library to link to.
        prefix.join("lib/libLLVM.so").exists().then_some(prefix)
    })
}
