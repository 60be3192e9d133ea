//! The `xvip` command.
fn main() {}
