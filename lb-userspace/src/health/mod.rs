//! What load balancers and kubelets are told about this node: S40, S41.
//!
//! Owns: when the node's proxy is healthy, what each Service's health check says, in which words; and the ports where it is
//! asked. The times are arguments; only [`SharedHealth`] and the listeners have a clock and sockets.
//!
//! Must not know: maps, plans, where Services come from.
//!
//! | file | what it owns |
//! |---|---|
//! | `state` | pure: whether a change waits for too long |
//! | `answers` | pure: status, headers and bodies |
//! | `checks` | pure: who is asked where about which Service |
//! | `shared` | the state between the agent's loop and the servers |
//! | `proxy` | `/healthz` and `/livez` |
//! | `listeners` | the health check ports of Services, opened and closed |

mod answers;
mod checks;
mod listeners;
mod proxy;
mod shared;
mod state;

pub use checks::{Check, Checks};
pub use listeners::ServiceChecks;
pub use proxy::{CountAnswers, ProxySite};
pub use shared::SharedHealth;
pub use state::{Health, Now};
