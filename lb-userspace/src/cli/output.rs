//! Rows as a table, as JSON and as YAML.
//!
//! Owns: the three renderings. Must not know: what the rows are about, or where the text goes.

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How `xvip get` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of the columns most asked for
    #[default]
    Table,
    /// A table of all columns
    Wide,
    /// A JSON array (status: an object), field names stable
    Json,
    /// The same as YAML
    Yaml,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Shown by `-o wide` only.
    pub wide: bool,
}

impl Column {
    /// A column of every table.
    #[must_use]
    pub const fn new(title: &'static str) -> Self {
        Self { title, wide: false }
    }

    /// A column of the wide table.
    #[must_use]
    pub const fn wide(title: &'static str) -> Self {
        Self { title, wide: true }
    }
}

/// Something a view has one or more of.
pub trait Row: Serialize {
    /// The columns.
    const COLUMNS: &'static [Column];

    /// The lines of the table that show it; each has a cell for every column.
    fn lines(&self) -> Vec<Vec<String>>;
}

/// All rows in one format, ending with a line feed. A table without rows says `empty` instead.
pub fn render<R: Row>(rows: &[R], format: Format, empty: &str) -> Result<String> {
    match format {
        Format::Table | Format::Wide if rows.is_empty() => Ok(format!("{empty}\n")),
        Format::Table => Ok(table(rows, false)),
        Format::Wide => Ok(table(rows, true)),
        Format::Json => json(rows),
        Format::Yaml => yaml(rows),
    }
}

/// A value as JSON, indented, ending with a line feed.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    text.push('\n');
    Ok(text)
}

/// A value as YAML, ending with a line feed.
pub fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut text = serde_saphyr::to_string(&value).context("cannot write YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn table<R: Row>(rows: &[R], wide: bool) -> String {
    let shown: Vec<bool> = R::COLUMNS.iter().map(|column| wide || !column.wide).collect();
    let pick = |cells: Vec<String>| -> Vec<String> {
        let cells = cells.into_iter().zip(&shown);
        cells.filter(|(_, shown)| **shown).map(|(cell, _)| cell).collect()
    };
    let header = R::COLUMNS.iter().map(|column| column.title.to_owned()).collect();
    let lines = rows.iter().flat_map(Row::lines).map(pick);
    plain(pick(header), lines)
}

/// A table without lines, columns two blanks apart: what `grep`, `awk` and `sort` can take.
pub(super) fn plain(header: Vec<String>, lines: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header)
        .add_rows(lines);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Animal {
        common_name: &'static str,
        legs: u32,
    }

    impl Row for Animal {
        const COLUMNS: &'static [Column] = &[Column::new("NAME"), Column::wide("LEGS")];

        fn lines(&self) -> Vec<Vec<String>> {
            vec![vec![self.common_name.to_owned(), self.legs.to_string()]]
        }
    }

    const ZOO: [Animal; 2] = [
        Animal {
            common_name: "house cat",
            legs: 4,
        },
        Animal {
            common_name: "kiwi",
            legs: 2,
        },
    ];

    #[test]
    fn each_format_shows_the_same_rows() {
        let cases = [
            (Format::Table, "NAME\nhouse cat\nkiwi\n"),
            (Format::Wide, "NAME       LEGS\nhouse cat  4\nkiwi       2\n"),
            (
                Format::Json,
                "[\n  {\n    \"commonName\": \"house cat\",\n    \"legs\": 4\n  },\n  {\n    \"commonName\": \"kiwi\",\n    \
                 \"legs\": 2\n  }\n]\n",
            ),
            (
                Format::Yaml,
                "- commonName: house cat\n  legs: 4\n- commonName: kiwi\n  legs: 2\n",
            ),
        ];
        for (format, expected) in cases {
            assert_eq!(render(&ZOO, format, "none").unwrap(), expected, "{format:?}");
        }
    }

    #[test]
    fn no_rows_are_said_in_words_to_people_and_as_a_list_to_programs() {
        assert_eq!(
            render::<Animal>(&[], Format::Table, "no animals").unwrap(),
            "no animals\n"
        );
        assert_eq!(render::<Animal>(&[], Format::Json, "no animals").unwrap(), "[]\n");
    }
}
