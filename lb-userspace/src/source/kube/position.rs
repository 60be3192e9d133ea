//! Where in a collection's history the agent is, and what to ask for next.
//!
//! Owns: the ways to list, their order, and when to go from one to the next. Pure: outcomes are arguments. Must not know: HTTP,
//! time, objects.
//!
//! ```text
//!   Streaming ──closed, doubted──▶ Cache ──closed, expired, doubted──▶ Quorum ──closed, doubted──▶ Streaming
//!       └──────────────────────────── complete: Watch ◀────────────────────┘
//!   Watch ──expired, closed, doubted──▶ Streaming
//! ```
//!
//! Streaming and Cache never go back behind what was applied. Quorum is the truth, even if it is older: a cluster that was restored
//! from a backup has a shorter history.

use std::cmp::Ordering;
use std::fmt;

use super::failure::Setback;

/// So many doubtful failures in a row, and another way is taken.
const PATIENCE: u32 = 3;

/// What to ask the server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Everything as events, then what follows; not older than this version.
    Stream { from: Option<String> },
    /// Everything that the server's cache has; not older than this version.
    Cache { from: Option<String> },
    /// Everything that is, in pages or in one piece.
    Quorum { paged: bool },
    /// What happens after this version.
    Watch { from: String },
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream { .. } => "a streaming list",
            Self::Cache { .. } => "a list from the cache",
            Self::Quorum { paged: true } => "a quorum list in pages",
            Self::Quorum { paged: false } => "a quorum list in one piece",
            Self::Watch { .. } => "a watch",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Streaming,
    Cache,
    /// With the number of times that pages expired before the last one was read.
    Quorum {
        expired: u32,
    },
    Watch,
}

/// A place in the history.
#[derive(Debug)]
pub(super) struct Position {
    /// The newest version that was applied.
    version: Option<String>,
    way: Way,
    doubts: u32,
}

/// A list or an event is older than what was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Older {
    pub(super) held: String,
    pub(super) told: String,
}

impl Position {
    /// Before the first list.
    pub(super) fn new() -> Self {
        Self {
            version: None,
            way: Way::Streaming,
            doubts: 0,
        }
    }

    /// The next request.
    pub(super) fn ask(&self) -> Ask {
        let from = self.version.clone();
        match (self.way, from) {
            (Way::Watch, Some(from)) => Ask::Watch { from },
            (Way::Streaming | Way::Watch, from) => Ask::Stream { from },
            (Way::Cache, from) => Ask::Cache { from },
            // As client-go's pager: pages that expire while they are read may do so again.
            (Way::Quorum { expired }, _) => Ask::Quorum { paged: expired < 2 },
        }
    }

    /// Whether a list of this version may be applied.
    pub(super) fn admits(&self, told: &str) -> Result<(), Older> {
        match &self.version {
            Some(held)
                if !matches!(self.way, Way::Quorum { .. }) && compare(told, held) == Some(Ordering::Less) =>
            {
                Err(Older {
                    held: held.clone(),
                    told: told.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// A list is complete. Says whether its history is another one than that of before.
    pub(super) fn listed(&mut self, version: String) -> bool {
        let rewritten = self
            .version
            .as_ref()
            .is_some_and(|held| compare(&version, held) == Some(Ordering::Less));
        self.version = Some(version);
        self.go(Way::Watch);
        rewritten
    }

    /// The watch has come to this version.
    pub(super) fn advance(&mut self, version: &str) -> Result<(), Older> {
        if let Some(held) = &self.version
            && compare(version, held) == Some(Ordering::Less)
        {
            return Err(Older {
                held: held.clone(),
                told: version.to_owned(),
            });
        }
        self.version = Some(version.to_owned());
        self.doubts = 0;
        Ok(())
    }

    /// The watch may have missed something: everything is asked for again.
    pub(super) fn list_again(&mut self) {
        self.go(Way::Streaming);
    }

    /// What was asked for did not come. Says whether the next request is another one.
    pub(super) fn setback(&mut self, setback: Setback) -> bool {
        match (self.way, setback) {
            (_, Setback::Retry) => return false,
            (Way::Quorum { expired }, Setback::Expired) => self.way = Way::Quorum { expired: expired + 1 },
            (_, Setback::Closed | Setback::Expired) => self.go(self.way.next()),
            (_, Setback::Doubt) => {
                self.doubts += 1;
                if self.doubts < PATIENCE {
                    return false;
                }
                self.go(self.way.next());
            }
        }
        true
    }

    fn go(&mut self, way: Way) {
        self.way = way;
        self.doubts = 0;
    }
}

impl Way {
    fn next(self) -> Self {
        match self {
            Self::Streaming => Self::Cache,
            Self::Cache => Self::Quorum { expired: 0 },
            Self::Quorum { .. } | Self::Watch => Self::Streaming,
        }
    }
}

/// Versions are decimal numbers without leading zeros, of any length; others cannot be compared.
fn compare(one: &str, other: &str) -> Option<Ordering> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(one) && is_number(other)).then(|| one.len().cmp(&other.len()).then_with(|| one.cmp(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "stream";
    const CACHE: &str = "cache";
    const PAGES: &str = "pages";
    const WHOLE: &str = "whole";
    const WATCH: &str = "watch";

    fn asked(position: &Position) -> &'static str {
        match position.ask() {
            Ask::Stream { .. } => STREAM,
            Ask::Cache { .. } => CACHE,
            Ask::Quorum { paged: true } => PAGES,
            Ask::Quorum { paged: false } => WHOLE,
            Ask::Watch { .. } => WATCH,
        }
    }

    /// What is asked for after each setback, from `position` on.
    fn check(mut position: Position, steps: &[(Setback, &str)]) {
        for (index, (setback, expected)) in steps.iter().enumerate() {
            position.setback(*setback);
            assert_eq!(asked(&position), *expected, "step {index}, {setback:?}");
        }
    }

    fn watching(version: &str) -> Position {
        let mut position = Position::new();
        position.listed(version.to_owned());
        position
    }

    #[test]
    fn a_way_that_is_closed_leads_to_the_next() {
        use Setback::{Closed, Expired};
        check(
            Position::new(),
            &[(Closed, CACHE), (Closed, PAGES), (Closed, STREAM)],
        );
        check(Position::new(), &[(Expired, CACHE), (Expired, PAGES)]);
        check(watching("5"), &[(Expired, STREAM)]);
        check(watching("5"), &[(Closed, STREAM)]);
    }

    #[test]
    fn a_way_that_is_doubted_is_tried_three_times() {
        use Setback::Doubt;
        let three = |expected| [(Doubt, expected)];
        check(
            Position::new(),
            &[
                (Doubt, STREAM),
                (Doubt, STREAM),
                three(CACHE)[0],
                (Doubt, CACHE),
                (Doubt, CACHE),
                (Doubt, PAGES),
            ],
        );
        check(watching("5"), &[(Doubt, WATCH), (Doubt, WATCH), (Doubt, STREAM)]);
    }

    #[test]
    fn a_server_that_is_away_says_nothing_about_the_way() {
        use Setback::{Closed, Retry};
        check(Position::new(), &[(Retry, STREAM); 10]);
        check(watching("5"), &[(Retry, WATCH); 10]);
        check(
            Position::new(),
            &[(Closed, CACHE), (Retry, CACHE), (Retry, CACHE)],
        );
    }

    #[test]
    fn pages_that_expire_are_read_anew_and_then_in_one_piece() {
        use Setback::{Closed, Expired};
        check(
            Position::new(),
            &[
                (Closed, CACHE),
                (Closed, PAGES),
                (Expired, PAGES),
                (Expired, WHOLE),
                (Expired, WHOLE),
            ],
        );
    }

    #[test]
    fn a_list_is_asked_for_from_what_was_applied() {
        let mut position = Position::new();
        assert_eq!(position.ask(), Ask::Stream { from: None });
        position.setback(Setback::Closed);
        assert_eq!(position.ask(), Ask::Cache { from: None });
        position.listed("5".to_owned());
        assert_eq!(position.ask(), Ask::Watch { from: "5".to_owned() });
        position.advance("9").unwrap();
        position.setback(Setback::Expired);
        assert_eq!(
            position.ask(),
            Ask::Stream {
                from: Some("9".to_owned())
            }
        );
        position.setback(Setback::Closed);
        assert_eq!(
            position.ask(),
            Ask::Cache {
                from: Some("9".to_owned())
            }
        );
    }

    #[test]
    fn only_a_quorum_list_may_go_back() {
        let mut position = watching("1000");
        position.setback(Setback::Expired);
        for _ in [STREAM, CACHE] {
            assert!(position.admits("999").is_err(), "{:?}", position.ask());
            assert!(position.admits("1000").is_ok());
            assert!(position.admits("10000").is_ok(), "longer is newer");
            position.setback(Setback::Closed);
        }
        assert!(position.admits("999").is_ok(), "the truth");
        assert!(position.listed("999".to_owned()), "another history");
        assert!(!position.listed("999".to_owned()));
        assert!(position.advance("998").is_err());
        assert!(position.advance("999").is_ok());
    }

    #[test]
    fn progress_takes_doubts_away() {
        let mut position = watching("5");
        for version in ["6", "7", "8", "9"] {
            position.setback(Setback::Doubt);
            position.setback(Setback::Doubt);
            position.advance(version).unwrap();
            assert_eq!(asked(&position), WATCH);
        }
    }
}
