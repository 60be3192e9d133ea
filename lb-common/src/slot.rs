//! Map `slots`: one big array of backend indices. A service's list is a range of it, written new and switched to.

/// A backend index.
pub type Slot = u32;
