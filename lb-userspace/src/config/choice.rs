//! Settings that are one word out of a few.

use std::fmt;
use std::str::FromStr;

/// Gives an enum its words: `FromStr` with an error that lists them, and `Display`.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

/// Where XDP is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where the driver can and frames come whole, tc elsewhere.
    #[default]
    Auto,
    /// Native on every uplink, also where frames may come unfinished.
    Native,
    /// The kernel's emulation on every uplink.
    Generic,
    /// tc only.
    Off,
}

words!(XdpMode { Auto = "auto", Native = "native", Generic = "generic", Off = "off" });

/// Whose rules decide about a client's source address (S17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// Kept wherever it can be.
    #[default]
    Preserve,
    /// kube-proxy's table to the letter.
    KubeProxy,
}

words!(SourceAddress { Preserve = "preserve", KubeProxy = "kube-proxy" });

/// How much the kernel programs say about a packet's walk. Chosen when they are loaded; no cost when off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceLevel {
    /// Nothing.
    #[default]
    Off,
    /// Verdicts.
    Info,
    /// Every stage.
    Debug,
}

words!(TraceLevel { Off = "off", Info = "info", Debug = "debug" });

/// How much the agent logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what needs somebody's attention.
    Warn,
    /// And what changes.
    #[default]
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

words!(LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });
