//! What was said already: a complaint is logged when it is new, not every time it is still true.
//!
//! Owns: the memory of it. Must not know: the logger.

use std::collections::{BTreeMap, BTreeSet};

/// Complaints in force, by what they are about.
#[derive(Debug)]
pub struct Complaints<Subject> {
    said: BTreeMap<Subject, BTreeSet<String>>,
}

impl<Subject> Default for Complaints<Subject> {
    fn default() -> Self {
        Self {
            said: BTreeMap::new(),
        }
    }
}

impl<Subject: Ord> Complaints<Subject> {
    /// Takes everything there is to say about a subject now, and returns what was not said before.
    pub fn renew(&mut self, subject: Subject, now: impl IntoIterator<Item = String>) -> Vec<String> {
        let now: BTreeSet<String> = now.into_iter().collect();
        let before = self.said.remove(&subject).unwrap_or_default();
        let new = now.difference(&before).cloned().collect();
        if !now.is_empty() {
            self.said.insert(subject, now);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_true_is_not_said_again() {
        let mut complaints = Complaints::default();
        let mut renew =
            |subject, now: &[&str]| complaints.renew(subject, now.iter().map(ToString::to_string));
        assert_eq!(renew("web", &["full", "late"]), ["full", "late"]);
        assert_eq!(renew("web", &["full"]), Vec::<String>::new());
        assert_eq!(renew("api", &["full"]), ["full"], "another subject");
        assert!(renew("web", &[]).is_empty());
        assert_eq!(renew("web", &["full"]), ["full"], "it was over in between");
    }
}
