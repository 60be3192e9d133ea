//! The lines of an answer, one at a time.
//!
//! Owns: cutting a body at its line breaks. Must not know: what a line says.

use futures::StreamExt;
use futures::stream::BoxStream;

use super::failure::Failure;

/// A line longer than this is none: etcd takes 1.5 MiB for one object.
const LONGEST: usize = 16 << 20;

/// The pieces of a body as they arrive.
pub(super) type Pieces = BoxStream<'static, Result<Vec<u8>, Failure>>;

/// Cuts a body into lines.
pub(super) struct Lines {
    pieces: Pieces,
    /// What has arrived and was not handed out, from `begin` on; up to `searched` there is no line break in it.
    held: Vec<u8>,
    begin: usize,
    searched: usize,
}

impl Lines {
    pub(super) fn new(pieces: Pieces) -> Self {
        Self {
            pieces,
            held: Vec::new(),
            begin: 0,
            searched: 0,
        }
    }

    /// The next line, without its break; none at the end. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(line) = self.cut() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.held.len() - self.begin > LONGEST {
                return Err(Failure::Garbage(format!("a line of more than {LONGEST} bytes")));
            }
            match self.pieces.next().await {
                Some(piece) => self.take(&piece?),
                None if self.begin == self.held.len() => return Ok(None),
                None => {
                    return Err(Failure::Connection(
                        "it ended in the middle of an event".to_owned(),
                    ));
                }
            }
        }
    }

    fn take(&mut self, piece: &[u8]) {
        self.held.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        self.held.extend_from_slice(piece);
    }

    fn cut(&mut self) -> Option<Vec<u8>> {
        let Some(length) = self.held[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.held.len();
            return None;
        };
        let end = self.searched + length;
        let line = self.held[self.begin..end].to_vec();
        self.begin = end + 1;
        self.searched = self.begin;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn all(pieces: &[&str]) -> (Vec<String>, Option<Failure>) {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(piece.as_bytes().to_vec())).collect();
        let mut lines = Lines::new(stream::iter(pieces).boxed());
        let mut found = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => found.push(String::from_utf8(line).unwrap()),
                Ok(None) => return (found, None),
                Err(failure) => return (found, Some(failure)),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_whole_however_they_arrive() {
        let text = "one\ntwo\n\r\n\nthree\n";
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        for pieces in [vec![text], bytes, vec!["one\ntw", "o\n\r\n\nthr", "ee\n"]] {
            let (found, failure) = all(&pieces).await;
            assert_eq!(found, ["one", "two", "three"], "{pieces:?}");
            assert!(failure.is_none(), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn an_event_that_breaks_off_is_no_event() {
        let (found, failure) = all(&["one\ntw"]).await;
        assert_eq!(found, ["one"]);
        assert!(matches!(failure, Some(Failure::Connection(_))), "{failure:?}");
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_given_up() {
        let much = "x".repeat(LONGEST);
        let (found, failure) = all(&[&much, "x", "x"]).await;
        assert!(found.is_empty());
        assert!(matches!(failure, Some(Failure::Garbage(_))), "{failure:?}");
    }
}
