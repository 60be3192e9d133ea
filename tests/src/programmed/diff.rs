//! Where two texts differ.

use std::fmt::Write;

/// Lines that are in one text alone, in the order of a longest common subsequence: `-` those of `old`, `+` those of `new`.
#[must_use]
pub fn diff(old: &[impl AsRef<str>], new: &[impl AsRef<str>]) -> String {
    let old: Vec<&str> = old.iter().map(AsRef::as_ref).collect();
    let new: Vec<&str> = new.iter().map(AsRef::as_ref).collect();
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            let _ = writeln!(text, "  - {}", old[i]);
            i += 1;
        } else {
            let _ = writeln!(text, "  + {}", new[j]);
            j += 1;
        }
    }
    text
}

/// An objection to any difference.
///
/// # Errors
/// The difference.
pub fn same(expected: &[impl AsRef<str>], programmed: &[impl AsRef<str>]) -> Result<(), String> {
    let differences = diff(expected, programmed);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(format!("(- expected, + programmed)\n{differences}"))
    }
}
