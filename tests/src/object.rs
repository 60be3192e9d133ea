//! The kernel objects that tests and benchmarks load, as this crate's build script made them.

/// The product's programs.
pub static DATAPATH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// The benchmark's own: packet generators, the empty programs and the floor.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));
