//! Names of network devices, with wildcards.

use std::fmt;
use std::str::FromStr;

/// A glob (`eth*`, `ens[0-9]`, `cali?*`) over device names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePattern(glob::Pattern);

impl DevicePattern {
    /// Whether a device's name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

impl FromStr for DevicePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches no device".to_owned());
        }
        glob::Pattern::new(text)
            .map(Self)
            .map_err(|error| format!("{text:?} is no device pattern: {}", error.msg))
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}
