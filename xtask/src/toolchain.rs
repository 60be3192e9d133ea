//! Finds the compiler and the linker of the kernel programs.
//!
//! `cargo xtask setup` and lb-userspace's build script both compile this file, so that they cannot disagree;
//! hence the standard library only. It looks and never installs: that is `setup`'s job.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The linker release the project is built with. Kept in a directory of its own, so that another release
/// never takes its place unnoticed.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

/// The target triple of the kernel programs: eBPF, little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Names a compiler to use instead of the ones looked for.
pub(crate) const RUSTC_OVERRIDE: &str = "XVIP_BPF_RUSTC";

/// Names a linker to use instead of the one `cargo xtask setup` builds.
pub(crate) const LINKER_OVERRIDE: &str = "XVIP_BPF_LINKER";

/// Where the compiler gets `core` for the BPF target from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// Debian ships it compiled.
    Prebuilt,
    /// rustup's `rust-src` component: cargo compiles it (`-Z build-std`).
    FromSource,
}

/// A compiler that can build for the BPF target.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    /// The linker's LLVM must be at least this one: it reads the bitcode the compiler writes.
    pub(crate) llvm_major: u32,
    pub(crate) core: Core,
}

/// What building the kernel programs takes, found and seen to run.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// The part that is not there.
#[derive(Debug)]
pub(crate) enum Missing {
    /// No compiler that is new enough has `core` for the BPF target, in either form.
    Compiler,
    /// There is a compiler, but no bpf-linker that runs where the one that fits it belongs.
    Linker(Compiler, PathBuf),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(f, "no Rust compiler with `core` for {TARGET} was found"),
            Self::Linker(compiler, linker) => write!(
                f,
                "no usable bpf-linker was found at {} (for {}, LLVM {})",
                linker.display(),
                compiler.rustc.display(),
                compiler.llvm_major
            ),
        }
    }
}

impl Toolchain {
    /// Looks for the compiler, then for a linker that fits it.
    pub(crate) fn find() -> Result<Self, Missing> {
        let compiler = Compiler::find().ok_or(Missing::Compiler)?;
        let linker = match env::var_os(LINKER_OVERRIDE) {
            Some(path) => PathBuf::from(path),
            None => linker_root(compiler.llvm_major).join("bin/bpf-linker"),
        };
        // Running it also tells a linker whose libLLVM is gone.
        match output(Command::new(&linker).arg("--version")) {
            Ok(_) => Ok(Self { compiler, linker }),
            Err(_) => Err(Missing::Linker(compiler, linker)),
        }
    }
}

impl Compiler {
    /// A compiler with prebuilt `core` wins over one that has to compile it: it needs nothing unstable of cargo.
    fn find() -> Option<Self> {
        let candidates = match env::var_os(RUSTC_OVERRIDE) {
            Some(path) => vec![PathBuf::from(path)],
            None => vec![PathBuf::from("/usr/bin/rustc"), PathBuf::from("rustc")],
        };
        let mut from_source = None;
        for candidate in candidates {
            match Self::probe(&candidate) {
                Some(compiler) if compiler.core == Core::Prebuilt => return Some(compiler),
                Some(compiler) => from_source = from_source.or(Some(compiler)),
                None => {}
            }
        }
        from_source
    }

    /// What `rustc` can do for the BPF target; `None` if nothing, or if it is too old for this workspace.
    fn probe(rustc: &Path) -> Option<Self> {
        let sysroot = output(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
        let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
        let core = if has_rlib(&rustlib.join(TARGET).join("lib")) {
            Core::Prebuilt
        } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
            Core::FromSource
        } else {
            return None;
        };

        let version = output(Command::new(rustc).arg("-vV")).ok()?;
        let field = |name: &str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name))?;
            Some(value.trim().to_owned())
        };
        let release = field("release:")?;
        let [llvm_major, _] = major_minor(&field("LLVM version:")?)?;
        if major_minor(&release)? < major_minor(env!("CARGO_PKG_RUST_VERSION"))? {
            return None;
        }
        Some(Self {
            rustc: rustc.to_owned(),
            llvm_major,
            core,
        })
    }
}

/// The cache directory's root of a linker release built against one LLVM: cargo's `--root`.
///
/// It is the user's, not the workspace's, so that a fresh clone does not build the linker again.
pub(crate) fn linker_root(llvm_major: u32) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir);
    cache
        .join("xvip")
        .join(format!("bpf-linker-{BPF_LINKER_VERSION}-llvm-{llvm_major}"))
}

/// `major.minor` at the head of a version.
pub(crate) fn major_minor(version: &str) -> Option<[u32; 2]> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some([major, minor]),
        _ => None,
    }
}

/// The standard output of a command that has to succeed.
fn output(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has_rlib(directory: &Path) -> bool {
    let Ok(entries) = directory.read_dir() else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}
