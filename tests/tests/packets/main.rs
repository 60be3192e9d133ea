//! What the kernel programs make of packets, as tables (see `lab::packets`). Needs root.

mod answers;
mod choice;
mod cluster_nets;
mod foreign;
mod forwarding;
mod headers;
mod host;
mod lifetime;
mod ports;
mod redirect;
mod refresh;
mod refusals;
mod sources;
mod stamps;
mod stress;
mod table;
mod untouched;
