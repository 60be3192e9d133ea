//! Packet tests: tables of packets, and what the loaded programs must make of them.
//!
//! [`datapath`] loads the kernel object into maps of its own and writes them by hand; [`testbed`] is the node around it;
//! [`packet`] makes frames with an independent library; [`case`](mod@case) plays stories and compares;
//! [`storm`] lets two CPUs work on one table at once. The agent takes no part.

pub mod case;
pub mod datapath;
pub mod flows;
pub mod packet;
pub mod run;
pub mod service;
pub mod storm;
pub mod table;
pub mod testbed;
pub mod who;

pub use case::{CHOSEN, Case, Expected, Outcome, Place, check, check_with, expect_flows};
pub use datapath::{Datapath, HZ, Keep, Options};
pub use flows::{Flow, State};
pub use packet::{Packet, flags};
pub use run::{Hook, Run, Verdict};
pub use service::{Net, Service};
pub use storm::Storm;
pub use table::{Place as TablePlace, Table};
pub use testbed::Testbed;
pub use who::{Family, Mac, Who};
