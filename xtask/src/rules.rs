//! `cargo xtask rules`: which tests name which rule of `docs/semantics.md`.
//!
//! A test names a rule in its doc comment or in its name (`s12_…`); a scenario in its comments. A rule that no test names fails the run,
//! unless it is listed as not built yet; one that is listed and has a test is listed wrongly.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::step::workspace;

/// Where the rules are.
const SEMANTICS: &str = "docs/semantics.md";
/// Where tests are: sources, and scenarios.
pub(crate) const PLACES: [&str; 3] = ["lb-common/src", "lb-userspace/src", "tests"];
/// Rules that nothing of xvip keeps yet.
const NOT_BUILT: [u32; 1] = [39];

/// A rule's title.
type Titles = BTreeMap<u32, String>;
/// The tests that name a rule.
type Tests = BTreeMap<u32, Vec<String>>;

/// Prints the table, and fails when a rule has no test.
pub(crate) fn rules() -> Result<()> {
    let root = workspace();
    let path = root.join(SEMANTICS);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let titles = titles(&text);
    let mut by_rule = Tests::new();
    for (test, rules) in tests(root)? {
        for rule in rules {
            by_rule.entry(rule).or_default().push(test.clone());
        }
    }
    print!("{}", table(&titles, &by_rule));
    verdict(&titles, &by_rule)
}

/// Every test there is, `FILE: TEST` or the file of a scenario, and the rules each names.
pub(crate) fn tests(root: &Path) -> Result<Vec<(String, Vec<u32>)>> {
    let mut tests = Vec::new();
    for place in PLACES {
        for file in files(&root.join(place))? {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            tests.extend(of_file(&name, &text));
        }
    }
    Ok(tests)
}

/// The rules: lines that begin with `- **S12** *Title*`.
fn titles(text: &str) -> Titles {
    let lines = text.lines().filter_map(|line| line.strip_prefix("- **S"));
    lines
        .filter_map(|line| {
            let (number, rest) = line.split_once("**")?;
            let title = rest.split('*').nth(1)?;
            Some((number.parse().ok()?, title.trim_end_matches('.').replace('`', "")))
        })
        .collect()
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "yaml")
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// The tests of a file, and the rules each names.
fn of_file(name: &str, text: &str) -> Vec<(String, Vec<u32>)> {
    if name.ends_with(".yaml") {
        let comments: String = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        return vec![(name.to_owned(), named(&comments))];
    }
    let mut found = Vec::new();
    // What stands right above a function: its comments and attributes.
    let mut above = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("///") || line.starts_with("#[") {
            above.push_str(line);
            above.push('\n');
        } else if let Some(function) = function(line) {
            let is_test =
                above.contains("#[test]") || above.contains("#[tokio::test") || is_listed(text, function);
            if is_test {
                let upper = function.to_uppercase().replace('_', " ");
                let rules = named(&format!("{above}{upper}"));
                found.push((format!("{name}: {function}"), rules));
            }
            above.clear();
        } else {
            above.clear();
        }
    }
    found
}

/// The name of the function that a line declares.
fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// Whether a macro of the tests' makes a test of a function: `on_both_shapes!(…)` and its like.
fn is_listed(text: &str, function: &str) -> bool {
    text.split("on_both_shapes").skip(1).any(|rest| {
        let Some((arguments, _)) = rest.split_once(';') else {
            return false;
        };
        arguments
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == function)
    })
}

/// The rules a text names: `S12`, and all from `S12–S14`.
fn named(text: &str) -> Vec<u32> {
    let mut rules = Vec::new();
    let mut rest = text;
    let mut before = ' ';
    while let Some(at) = rest.find('S') {
        let previous = rest[..at].chars().next_back().unwrap_or(before);
        let digits: String = rest[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        rest = &rest[at + 1 + digits.len()..];
        before = 'S';
        let ends = !rest.starts_with(|c: char| c.is_alphanumeric());
        let Some(rule) = digits
            .parse()
            .ok()
            .filter(|_| ends && !previous.is_alphanumeric())
        else {
            continue;
        };
        // The second end of a range closes what is between.
        if previous == '–'
            && let Some(&first) = rules.last()
        {
            rules.extend(first + 1..rule);
        }
        rules.push(rule);
    }
    rules.dedup();
    rules
}

fn table(titles: &Titles, tests: &Tests) -> String {
    let mut text = String::new();
    for (rule, title) in titles {
        let tests = tests.get(rule).map(Vec::as_slice).unwrap_or_default();
        let state = match tests.len() {
            0 if NOT_BUILT.contains(rule) => "not built yet".to_owned(),
            0 => "NO TEST".to_owned(),
            1 => "1 test".to_owned(),
            count => format!("{count} tests"),
        };
        text.push_str(&format!("S{rule:<3} {title:<24} {state}\n"));
        for test in tests {
            text.push_str(&format!("       {test}\n"));
        }
    }
    text
}

fn verdict(titles: &Titles, tests: &Tests) -> Result<()> {
    let list = |rules: Vec<u32>| {
        let rules: Vec<String> = rules.iter().map(|rule| format!("S{rule}")).collect();
        rules.join(", ")
    };
    let untested = titles
        .keys()
        .copied()
        .filter(|rule| !tests.contains_key(rule) && !NOT_BUILT.contains(rule));
    let untested: Vec<u32> = untested.collect();
    if !untested.is_empty() {
        bail!("no test names {}", list(untested));
    }
    let unknown: Vec<u32> = tests
        .keys()
        .copied()
        .filter(|rule| !titles.contains_key(rule))
        .collect();
    if !unknown.is_empty() {
        bail!("tests name {}, which {SEMANTICS} does not have", list(unknown));
    }
    let built: Vec<u32> = NOT_BUILT
        .iter()
        .copied()
        .filter(|rule| tests.contains_key(rule))
        .collect();
    if !built.is_empty() {
        bail!(
            "{} has tests: take it from the list of what is not built",
            list(built)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[u32]) {
        assert_eq!(named(text), expected, "{text:?}");
    }

    #[test]
    fn rules_are_words_of_their_own() {
        check("S12, and S3.", &[12, 3]);
        check("S27–S29; (S5)", &[27, 28, 29, 5]);
        check("DNS12 S12th IPS 3 S S4b", &[]);
        check("S12 S12", &[12]);
    }

    #[test]
    fn a_test_is_found_with_what_stands_above_it() {
        let source = "/// S1.\n#[test]\nfn one() {}\n\n/// S2: no test.\nfn helper() {}\n\n#[tokio::test]\nasync fn s3_holds() {}\n\
            on_both_shapes!(\n    four,\n);\n/// S4.\nfn four(shape: Shape) {}\n";
        let found: Vec<(String, Vec<u32>)> = of_file("a.rs", source);
        let expected = [("a.rs: one", 1), ("a.rs: s3_holds", 3), ("a.rs: four", 4)];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, rule)| ((*name).to_owned(), vec![*rule]))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_scenario_names_rules_in_its_comments() {
        let found = of_file("a.yaml", "# S12, S13.\nkind: Service # S14\n---\n# S15\n");
        assert_eq!(found, [("a.yaml".to_owned(), vec![12, 13, 15])]);
    }

    #[test]
    fn a_rule_without_a_test_fails_unless_it_is_not_built() {
        let titles = titles("- **S1** *One.* Text\n- **S39** *Later* (x). Text\nprose S2\n");
        assert_eq!(titles, [(1, "One".to_owned()), (39, "Later".to_owned())].into());
        let test = || vec!["test".to_owned()];
        let says = |tests: Tests| verdict(&titles, &tests).map_err(|error| error.to_string());
        assert_eq!(says([(1, test())].into()), Ok(()));
        assert_eq!(says(Tests::new()).unwrap_err(), "no test names S1");
        assert!(says([(1, test()), (99, test())].into()).is_err());
        assert!(says([(1, test()), (39, test())].into()).is_err());
    }
}
