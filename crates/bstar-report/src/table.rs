//! Plain text tables: no colour, no lines that a terminal might garble, numbers to the right.

use comfy_table::{CellAlignment, ContentArrangement, Table as Layout, presets};

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    layout: Layout,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let mut layout = Layout::new();
        layout.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        layout.set_header(columns.iter().map(|(name, _)| *name));
        for ((_, align), column) in columns.iter().zip(layout.column_iter_mut()) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        Self { layout }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.layout.add_row(cells);
    }

    /// The text, each line without trailing space.
    pub fn render(&self) -> String {
        self.layout.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// A share as a percentage with one decimal; `–` where there is none.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".into(), |share| format!("{:.1}", 100.0 * share))
}

/// A number with so many decimals; `–` where there is none.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_missing_ones_are_dashes() {
        let mut table = Table::new(&[("name", Align::Left), ("value", Align::Right)]);
        table.row(["a".to_owned(), percent(Some(0.5))]);
        table.row(["long name".to_owned(), number(None, 2)]);
        assert_eq!(table.render(), "name       value\na           50.0\nlong name      –\n");
    }
}
