//! The kernel objects that tests and benchmarks load by themselves.

/// The product's programs, as the agent embeds them.
pub static DATAPATH: &[u8] = lb_userspace::dataplane::OBJECT;

/// The benchmark's own: packet generators, the empty programs and the floor.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));
