//! What the kernel programs make of packets, as tables (see `lab::packets`). Needs root.

mod answers;
mod choice;
mod forwarding;
mod headers;
mod lifetime;
mod ports;
mod refresh;
mod stamps;
mod untouched;
