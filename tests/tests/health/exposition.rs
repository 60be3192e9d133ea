//! A strict reader of the text format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// What was read: families by name.
#[derive(Debug)]
pub(crate) struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: String,
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a whole answer: every family has its HELP, its TYPE, then its samples, each of them once.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut helped = None;
        let mut current: Option<String> = None;
        if !text.ends_with('\n') {
            return Err("the last line is not ended".to_owned());
        }
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helped = Some(word(rest)?.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("{line:?}: no type"))?;
                if helped.as_deref() != Some(name) {
                    return Err(format!("{line:?} does not follow its HELP"));
                }
                let family = Family {
                    kind: kind.to_owned(),
                    samples: BTreeMap::new(),
                };
                if families.insert(name.to_owned(), family).is_some() {
                    return Err(format!("{name} is there twice"));
                }
                current = Some(name.to_owned());
            } else {
                let name = current
                    .as_ref()
                    .ok_or_else(|| format!("{line:?} is of no family"))?;
                let family = families.get_mut(name).ok_or("no family")?;
                let (series, value) = line
                    .rsplit_once(' ')
                    .ok_or_else(|| format!("{line:?}: no value"))?;
                check_series(name, &family.kind, series)?;
                let value = value
                    .parse::<f64>()
                    .map_err(|error| format!("{line:?}: {error}"))?;
                if family.samples.insert(series.to_owned(), value).is_some() {
                    return Err(format!("{series} is there twice"));
                }
            }
        }
        for (name, family) in &families {
            check_family(name, family)?;
        }
        Ok(Self { families })
    }

    /// The names and types of the families.
    pub(crate) fn kinds(&self) -> BTreeMap<&str, &str> {
        let families = self.families.iter();
        families
            .map(|(name, family)| (name.as_str(), family.kind.as_str()))
            .collect()
    }

    /// A sample, as `name{label="value",…}`.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.families
            .values()
            .find_map(|family| family.samples.get(series).copied())
    }
}

fn word(text: &str) -> Result<&str, String> {
    let word = text.split(' ').next().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if word.is_empty() || !word.chars().all(fits) {
        return Err(format!("{word:?} is no name"));
    }
    Ok(word)
}

fn check_series(family: &str, kind: &str, series: &str) -> Result<(), String> {
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (
            name,
            Some(
                labels
                    .strip_suffix('}')
                    .ok_or(format!("{series:?} is not closed"))?,
            ),
        ),
        None => (series, None),
    };
    word(name)?;
    let suffixes: &[&str] = match kind {
        "histogram" => &["_bucket", "_sum", "_count"],
        "counter" | "gauge" => &[""],
        other => return Err(format!("{other:?} is no type")),
    };
    if !suffixes
        .iter()
        .any(|suffix| name.strip_suffix(suffix) == Some(family))
    {
        return Err(format!("{series:?} is no sample of {family}"));
    }
    for label in labels.into_iter().flat_map(|labels| labels.split("\",")) {
        let (name, value) = label.split_once("=\"").ok_or(format!("{label:?} is no label"))?;
        word(name)?;
        if value.trim_end_matches('"').contains('"') {
            return Err(format!("{label:?} is not escaped"));
        }
    }
    Ok(())
}

/// The buckets of a histogram are cumulative, and the last holds all.
fn check_family(name: &str, family: &Family) -> Result<(), String> {
    if family.samples.is_empty() {
        return Err(format!("{name} has no samples"));
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let counts = format!("{name}_count");
    let own: BTreeSet<&str> = family
        .samples
        .keys()
        .filter_map(|series| series.strip_prefix(&counts))
        .collect();
    for labels in own {
        let labels = labels.trim_matches(['{', '}']);
        let prefix = format!("{name}_bucket{{{labels}");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (series, count) in family
            .samples
            .iter()
            .filter(|(series, _)| series.starts_with(&prefix))
        {
            let (_, end) = series
                .split_once("le=\"")
                .ok_or(format!("{series:?} has no upper end"))?;
            let end = end.trim_end_matches(['"', '}']).parse::<f64>();
            buckets.push((end.map_err(|error| error.to_string())?, *count));
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let last = buckets.last().ok_or(format!("{name} has no buckets"))?;
        let count = family.samples.get(&format!("{counts}{{{labels}}}"));
        if !buckets.is_sorted_by(|a, b| a.1 <= b.1) || !last.0.is_infinite() || Some(&last.1) != count {
            return Err(format!("{name}: {buckets:?} do not add up to {count:?}"));
        }
    }
    Ok(())
}

#[test]
fn what_prometheus_would_refuse_is_refused() {
    let family = "# HELP a_total Help.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n";
    assert_eq!(
        Exposition::parse(family).unwrap().value("a_total{b=\"c\"}"),
        Some(1.0)
    );
    let histogram = |second: u8, count: u8| {
        format!(
            "# HELP h H\n# TYPE h histogram\nh_bucket{{x=\"y\",le=\"1\"}} 1\nh_bucket{{x=\"y\",le=\"+Inf\"}} {second}\n\
             h_sum{{x=\"y\"}} 3\nh_count{{x=\"y\"}} {count}\n"
        )
    };
    assert!(Exposition::parse(&histogram(2, 2)).is_ok());
    for bad in [
        &format!("{family}{family}"),
        "a 1\n",
        "# TYPE a counter\na 1\n",
        "# HELP a A\n# TYPE a counter\n",
        "# HELP a A\n# TYPE a counter\na 1",
        "# HELP a A\n# TYPE a counter\na 1\na 2\n",
        "# HELP a A\n# TYPE a counter\nb 1\n",
        "# HELP a A\n# TYPE a counter\na one\n",
        "# HELP a A\n# TYPE a counter\na{b} 1\n",
        "# HELP a-b A\n# TYPE a-b counter\na-b 1\n",
        &histogram(0, 0),
        &histogram(2, 3),
    ] {
        assert!(Exposition::parse(bad).is_err(), "{bad}");
    }
}
