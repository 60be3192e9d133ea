//! `docs/conformance.md` names tests: they exist.

use std::{collections::BTreeSet, fs};

use crate::{rules, step::workspace};

/// Where upstream's tests are mapped to ours.
const CONFORMANCE: &str = "docs/conformance.md";

/// The tests and scenarios a text names: `FILE: TEST` or `FILE.yaml`, between backticks.
fn named(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|quoted| rules::PLACES.iter().any(|place| quoted.starts_with(place)))
        .collect()
}

#[test]
fn every_test_that_the_document_names_exists() {
    let text = fs::read_to_string(workspace().join(CONFORMANCE)).unwrap();
    let tests = rules::tests(workspace()).unwrap();
    let present: BTreeSet<&str> = tests.iter().map(|(test, _)| test.as_str()).collect();
    let named = named(&text);
    assert!(named.len() > 50, "only {} tests are named", named.len());
    let missing: Vec<_> = named.difference(&present).collect();
    assert!(
        missing.is_empty(),
        "{CONFORMANCE} names what is not there: {missing:#?}"
    );
}

#[test]
fn names_stand_between_backticks() {
    let text = "`TestX` | `tests/a.rs: one`, `tests/scenarios/b.yaml`; tests/c.rs";
    assert_eq!(
        named(text).into_iter().collect::<Vec<_>>(),
        ["tests/a.rs: one", "tests/scenarios/b.yaml"]
    );
}
