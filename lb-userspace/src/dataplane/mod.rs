//! The kernel side as the agent and the command line see it.
//!
//! Owns: loading and attaching the programs, the pins, and every access to a map. The only module that imports aya.
//! Must not know: Kubernetes, which devices are worth attaching to, what a Service is beyond the entries of its maps.
//!
//! | file | what it owns |
//! |---|---|
//! | [`load`](Dataplane) | the order of a start: settings, sizes, maps, programs, tail calls |
//! | `sizes`, `declared` | how big maps are made; whether a pinned one is what the object declares |
//! | `bpffs`, `pins` | the file system, the paths, the lock between writers |
//! | `attach`, `links` | devices, and the pinned links on them |
//! | `mapped`, `flows` | maps in memory; whole flow entries out of memory that packets write |
//! | `maps`, `typed` | maps through system calls |
//! | `service_maps` | the reconciler's trait over the real maps; the node's addresses |
//! | `reader`, `inner` | everything read-only, with no agent needed |
//! | `cleanup` | removing all of it |
//! | `jiffies`, `kernel`, `log`, `syscall` | ticks, versions, the programs' log, the one raw command |

mod attach;
mod bpffs;
mod cleanup;
mod declared;
mod error;
mod flows;
mod inner;
mod jiffies;
mod kernel;
mod links;
mod load;
mod log;
mod mapped;
mod maps;
mod pins;
mod reader;
mod service_maps;
mod sizes;
mod syscall;
mod typed;

pub use attach::{Role, Target, XdpAttach};
pub use cleanup::{Removed, cleanup};
pub use error::DataplaneError;
pub use flows::{Busy, Flow, FlowTable};
pub use jiffies::TickClock;
pub use links::{Hook, PinnedHook};
pub use load::{Dataplane, OBJECT, Options, TcHook};
pub use log::KernelLog;
pub use reader::Reader;
pub use service_maps::KernelMaps;
pub use sizes::Sizes;
