//! Which kernels will do.

use super::error::DataplaneError;

/// A kernel's version, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Version(u32, u32);

/// The oldest that loads the programs: bounded loops, helpers and map types of 5.15; the interlocked instructions of the
/// flow table came to the arm64 JIT with 6.1 (5.18 for the LSE subset of it, which is not enough).
const OLDEST: Version = if cfg!(target_arch = "aarch64") {
    Version(6, 1)
} else {
    Version(5, 15)
};

/// The first with tcx: several programs on one device, in an order of their own choice.
const TCX: Version = Version(6, 6);

/// The running kernel.
fn running() -> Result<(String, Version), DataplaneError> {
    let names = nix::sys::utsname::uname().map_err(|e| DataplaneError::io("uname")(e.into()))?;
    let release = names.release().to_string_lossy().into_owned();
    let version = parse(&release).ok_or_else(|| {
        DataplaneError::Refused(format!(
            "the kernel's release {release:?} is not a version number"
        ))
    })?;
    Ok((release, version))
}

/// Refuses a kernel that is too old, in words.
pub(super) fn check() -> Result<(), DataplaneError> {
    let (found, version) = running()?;
    if version < OLDEST {
        return Err(DataplaneError::KernelTooOld {
            found,
            needed: format!("{}.{}", OLDEST.0, OLDEST.1),
        });
    }
    Ok(())
}

/// Whether the kernel has tcx.
pub(super) fn has_tcx() -> Result<bool, DataplaneError> {
    Ok(running()?.1 >= TCX)
}

/// The first two numbers of a release such as `6.1.0-13-cloud-amd64`.
fn parse(release: &str) -> Option<Version> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    Some(Version(numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        for (release, version) in [
            ("6.1.0-13-cloud-amd64", Some(Version(6, 1))),
            ("5.15.0", Some(Version(5, 15))),
            ("6.18-rc3", Some(Version(6, 18))),
            ("5.14.0-427.el9.x86_64", Some(Version(5, 14))),
            ("strange", None),
            ("6", None),
        ] {
            assert_eq!(parse(release), version, "{release}");
        }
    }

    #[test]
    fn versions_compare_as_numbers_not_as_text() {
        assert!(Version(5, 9) < Version(5, 15));
        assert!(Version(6, 18) > TCX);
    }
}
