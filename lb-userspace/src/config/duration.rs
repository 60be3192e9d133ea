//! Durations as Kubernetes writes them (Go's `time.ParseDuration`), in whole seconds.

/// Seconds of `2h30m`, `45s` and the like. Fractions and units below a second are refused: no timeout here is that fine.
pub(super) fn parse_seconds(text: &str) -> Result<u32, String> {
    let wanted = || {
        format!("{text:?} is no duration: whole hours, minutes and seconds are wanted, as in 2h30m or 45s")
    };
    let mut total: u32 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wanted());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wanted())?;
        let (factor, unit_length) = match rest.as_bytes()[digits] {
            // `ms`, which must not be read as minutes.
            b'm' if rest[digits..].starts_with("ms") => return Err(wanted()),
            b'h' => (3600, 1),
            b'm' => (60, 1),
            b's' => (1, 1),
            _ => return Err(wanted()),
        };
        total = number
            .checked_mul(factor)
            .and_then(|seconds| total.checked_add(seconds))
            .ok_or_else(|| format!("{text:?} is too long"))?;
        rest = &rest[digits + unit_length..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_hours_minutes_and_seconds() {
        let cases = [
            ("2h30m", Some(9000)),
            ("45s", Some(45)),
            ("1h1m1s", Some(3661)),
            ("0s", Some(0)),
            ("120h", Some(432_000)),
            ("", None),
            ("45", None),
            ("s", None),
            ("1.5h", None),
            ("500ms", None),
            ("-1s", None),
            ("1d", None),
            ("2h 30m", None),
            ("9999999h", None),
            ("1é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_seconds(text).ok(), expected, "{text:?}");
        }
    }
}
