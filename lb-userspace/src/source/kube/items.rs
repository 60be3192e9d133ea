//! Takes a list apart while it arrives.
//!
//! A list of everything may be large; its elements are wanted one at a time, so that no more than one is ever held as text, and so
//! that one that cannot be read does not spoil the others. Owns: finding where the elements of the field `items` begin and
//! end. Must not know: what is in them.

/// An element larger than this is none: etcd takes 1.5 MiB for one object.
pub(super) const LARGEST: usize = 16 << 20;

/// The text of a list is not what a list's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of more than {LARGEST} bytes")]
pub(super) struct TooLarge;

/// A JSON text that is read byte by byte.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// The text without the elements.
    skeleton: Vec<u8>,
    /// The element that is being read.
    item: Vec<u8>,
    /// Brackets and braces that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where in the skeleton the last string of the outermost object began.
    string_began: usize,
    /// That string is `items`.
    items_named: bool,
    /// Inside the array of elements.
    in_items: bool,
}

/// The depth at which the elements are: in the outermost object, in the array.
const ITEM_DEPTH: usize = 2;

impl Items {
    /// Reads on, and hands over each element that has become complete.
    pub(super) fn feed(&mut self, text: &[u8], mut complete: impl FnMut(&[u8])) -> Result<(), TooLarge> {
        for &byte in text {
            let within =
                self.in_items && (self.depth > ITEM_DEPTH || byte == b'{') && !self.in_outer_string();
            let separates = self.in_items
                && self.depth == ITEM_DEPTH
                && matches!(byte, b',' | b' ' | b'\n' | b'\r' | b'\t');
            if within {
                self.item.push(byte);
            } else if !separates || self.in_string {
                self.skeleton.push(byte);
            }
            self.step(byte);
            if within && self.depth == ITEM_DEPTH && !self.in_string {
                complete(&self.item);
                self.item.clear();
            }
            if self.item.len().max(self.skeleton.len()) > LARGEST {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    /// The text without the elements, which is a list's only if the whole list was read.
    pub(super) fn into_skeleton(self) -> Vec<u8> {
        self.skeleton
    }

    /// A string that is itself an element, which no list has.
    fn in_outer_string(&self) -> bool {
        self.in_string && self.depth == ITEM_DEPTH
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.depth == 1 {
                        self.items_named = self.skeleton[self.string_began..] == *b"\"items\"";
                    }
                }
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.string_began = self.skeleton.len().saturating_sub(1);
            }
            b'{' | b'[' => {
                self.in_items |= byte == b'[' && self.depth == 1 && self.items_named;
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_items &= self.depth >= ITEM_DEPTH;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` in pieces of each length; the outcome must not depend on it.
    fn check(text: &str, expected: &[&str], skeleton: &str) {
        for length in 1..=text.len() {
            let mut items = Items::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(length) {
                items
                    .feed(piece, |item| {
                        found.push(String::from_utf8(item.to_vec()).unwrap())
                    })
                    .unwrap();
            }
            assert_eq!(found, expected, "{text} by {length}");
            assert_eq!(
                String::from_utf8(items.into_skeleton()).unwrap(),
                skeleton,
                "{text} by {length}"
            );
        }
    }

    #[test]
    fn elements_are_found_wherever_the_array_stands() {
        check(
            r#"{"kind":"L","items":[{"a":1}, {"b":[{"c":2}]}]}"#,
            &[r#"{"a":1}"#, r#"{"b":[{"c":2}]}"#],
            r#"{"kind":"L","items":[]}"#,
        );
        check(
            "{\"items\": [\n{}\n],\"m\":{\"v\":\"1\"}}\n",
            &["{}"],
            "{\"items\": [],\"m\":{\"v\":\"1\"}}\n",
        );
        check(r#"{"items":[],"m":1}"#, &[], r#"{"items":[],"m":1}"#);
        check(r#"{"items":null}"#, &[], r#"{"items":null}"#);
    }

    #[test]
    fn brackets_and_quotes_in_strings_are_text() {
        check(
            r#"{"x":"items [{","items":[{"a":"}]\"{\\"},{"b":"\\\""}]}"#,
            &[r#"{"a":"}]\"{\\"}"#, r#"{"b":"\\\""}"#],
            r#"{"x":"items [{","items":[]}"#,
        );
    }

    #[test]
    fn only_the_lists_own_field_counts() {
        check(
            r#"{"m":{"items":[{"a":1}]},"items":[{"items":[{"b":2}]}]}"#,
            &[r#"{"items":[{"b":2}]}"#],
            r#"{"m":{"items":[{"a":1}]},"items":[]}"#,
        );
        check(r#"{"no":[{"a":1}]}"#, &[], r#"{"no":[{"a":1}]}"#);
    }

    #[test]
    fn what_is_no_object_stays_where_it_is() {
        check(
            r#"{"items":[1,"a, b",{"c":1}]}"#,
            &[r#"{"c":1}"#],
            r#"{"items":[1"a, b"]}"#,
        );
    }

    #[test]
    fn a_text_that_never_ends_is_given_up() {
        let mut items = Items::default();
        items.feed(br#"{"items":[{"a":""#, |_| {}).unwrap();
        let endless = vec![b'x'; LARGEST + 1];
        assert_eq!(items.feed(&endless, |_| {}), Err(TooLarge));
    }
}
