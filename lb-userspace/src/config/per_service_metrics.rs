//! For which service ports metrics are shown one by one.

/// `metrics.perService`. Empty, as by default: for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerServiceMetrics {
    /// `namespaces`: for those in these namespaces, the busiest [`Self::MOST`] of them at most.
    pub namespaces: Vec<String>,
    /// `top`: for so many with the most connections, wherever they are; [`Self::MOST`] at most.
    pub top: u32,
}

impl PerServiceMetrics {
    /// What keeps an answer to `/metrics` within a few megabytes, whatever the cluster has.
    pub const MOST: u32 = 1000;
}
