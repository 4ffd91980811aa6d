//! Rows of any table as JSON objects.
//!
//! A row has a number: the line in JSON Lines, the position in Parquet, from 1. Asked-for columns
//! are needed columns: a JSON object without one of them is an error like a Parquet file without
//! it. Who can do without a column asks for all.

use crate::cell::column_values;
use crate::comma::CommaRows;
use crate::error::TableError;
use crate::format::{TableFile, TableFormat};
use crate::lines::Lines;
use crate::parquet_file::{Batches, ParquetFile};
use arrow_array::RecordBatch;
use serde_json::{Map, Value};
use std::path::Path;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// 1-based line or position.
    pub number: u64,
    /// Column name → value.
    pub value: Map<String, Value>,
}

/// The rows of a table; ends after an error.
pub struct Rows {
    source: Source,
    columns: Option<Vec<String>>,
}

enum Source {
    Text(Lines),
    Comma(CommaRows),
    Parquet { batches: Batches, pending: std::vec::IntoIter<Map<String, Value>>, number: u64 },
    Ended,
}

/// Opens a table of JSON Lines (plain, gzip, zstd) or Parquet. With `columns`, rows hold those only
/// and each is needed; otherwise all. A table without rows is [`TableError::Empty`], which for JSON
/// Lines is found by the first row.
pub fn read_rows(path: &Path, columns: Option<&[&str]>) -> Result<Rows, TableError> {
    TableFile::open(path)?.rows(columns)
}

impl TableFile {
    /// The rows of the table, as [`read_rows`] gives them.
    pub fn rows(self, columns: Option<&[&str]>) -> Result<Rows, TableError> {
        let source = match self.format() {
            TableFormat::JsonLines(_) => Source::Text(self.lines()?),
            TableFormat::Csv => Source::Comma(self.comma_rows()?),
            TableFormat::Parquet => return self.parquet()?.rows(columns),
        };
        let columns = columns.map(|columns| columns.iter().map(|&name| name.to_owned()).collect());
        Ok(Rows { source, columns })
    }
}

impl ParquetFile {
    /// The rows of the file, as [`read_rows`] gives them.
    pub fn rows(self, columns: Option<&[&str]>) -> Result<Rows, TableError> {
        if self.row_count() == 0 {
            return Err(TableError::Empty { path: self.path().to_owned() });
        }
        let batches = self.batches(columns)?;
        let source = Source::Parquet { batches, pending: Vec::new().into_iter(), number: 0 };
        // The batches have the chosen columns only.
        Ok(Rows { source, columns: None })
    }
}

impl Iterator for Rows {
    type Item = Result<Row, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.source {
            Source::Text(lines) => next_text(lines, self.columns.as_deref()),
            Source::Comma(rows) => next_comma(rows, self.columns.as_deref()),
            Source::Parquet { batches, pending, number } => next_parquet(batches, pending, number),
            Source::Ended => Ok(None),
        };
        if !matches!(row, Ok(Some(_))) {
            self.source = Source::Ended;
        }
        row.transpose()
    }
}

fn next_text(lines: &mut Lines, columns: Option<&[String]>) -> Result<Option<Row>, TableError> {
    let path = lines.path().to_owned();
    let Some((number, text)) = lines.next_line()? else { return Ok(None) };
    let value = match serde_json::from_str(text) {
        Ok(Value::Object(value)) => value,
        Ok(other) => {
            let found = kind(&other);
            return Err(TableError::NotAnObject { path, line: number, found });
        }
        Err(error) => return Err(TableError::json(&path, number, &error)),
    };
    choose(&path, number, value, columns).map(Some)
}

fn next_comma(rows: &mut CommaRows, columns: Option<&[String]>) -> Result<Option<Row>, TableError> {
    match rows.next_row()? {
        Some(Row { number, value }) => choose(rows.path(), number, value, columns).map(Some),
        None => Ok(None),
    }
}

/// A row with the wanted columns, all of which it must have.
fn choose(
    path: &Path,
    number: u64,
    value: Map<String, Value>,
    columns: Option<&[String]>,
) -> Result<Row, TableError> {
    let Some(columns) = columns else { return Ok(Row { number, value }) };
    let mut chosen = Map::with_capacity(columns.len());
    for column in columns {
        let Some(cell) = value.get(column) else {
            return Err(TableError::MissingColumn {
                path: path.to_owned(),
                line: Some(number),
                column: column.clone(),
                present: value.keys().cloned().collect(),
            });
        };
        chosen.insert(column.clone(), cell.clone());
    }
    Ok(Row { number, value: chosen })
}

fn next_parquet(
    batches: &mut Batches,
    pending: &mut std::vec::IntoIter<Map<String, Value>>,
    number: &mut u64,
) -> Result<Option<Row>, TableError> {
    loop {
        if let Some(value) = pending.next() {
            *number += 1;
            return Ok(Some(Row { number: *number, value }));
        }
        match batches.next() {
            None => return Ok(None),
            Some(batch) => *pending = batch_rows(&batch?, batches.path())?.into_iter(),
        }
    }
}

fn batch_rows(batch: &RecordBatch, path: &Path) -> Result<Vec<Map<String, Value>>, TableError> {
    let mut rows = vec![Map::new(); batch.num_rows()];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let values = column_values(column).map_err(|found| TableError::UnsupportedType {
            path: path.to_owned(),
            column: field.name().clone(),
            found: found.to_string(),
        })?;
        for (row, value) in rows.iter_mut().zip(values) {
            row.insert(field.name().clone(), value);
        }
    }
    Ok(rows)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet_file::tests::write;
    use arrow_array::{Array as _, ArrayRef, Int32Array, ListArray, StringArray, StructArray};
    use arrow_buffer::OffsetBuffer;
    use arrow_schema::{Field, Fields};
    use serde_json::json;
    use std::sync::Arc;

    fn rows_of(name: &str, text: &str, columns: Option<&[&str]>) -> Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let at = format!("{}/", folder.path().display());
        let rows = read_rows(&path, columns).and_then(Iterator::collect);
        rows.map_err(|error| error.to_string().replace(&at, ""))
    }

    fn check_error(text: &str, columns: Option<&[&str]>, expected: &str) {
        assert_eq!(rows_of("a.jsonl", text, columns).unwrap_err(), expected);
    }

    #[test]
    fn rows_of_text_keep_line_numbers_and_chosen_columns() {
        let rows = rows_of("a.jsonl", "{\"a\":1,\"b\":[2]}\n\n{\"a\":3}\n", Some(&["a"])).unwrap();
        let shown: Vec<_> = rows.into_iter().map(|row| (row.number, row.value.into())).collect();
        assert_eq!(shown, [(1, json!({"a": 1})), (3, json!({"a": 3}))]);
    }

    #[test]
    fn rows_of_csv_are_text_by_the_names_of_the_first_line() {
        let text = "\u{feff}a,b\r\n1,\"x, y\"\n2,\n\"l\nm\",3\n\r\n\n";
        let rows = rows_of("a.csv", text, None).unwrap();
        let shown: Vec<_> = rows.into_iter().map(|row| (row.number, row.value.into())).collect();
        let expected = [
            (2, json!({"a": "1", "b": "x, y"})),
            (3, json!({"a": "2", "b": null})),
            (4, json!({"a": "l\nm", "b": "3"})),
        ];
        assert_eq!(shown, expected);
        let uneven = rows_of("a.csv", "a,b\n1,2\n3\n", None).unwrap_err();
        assert_eq!(uneven, "broken CSV at a.csv:3: 1 cells, and the first line names 2 columns");
        assert_eq!(rows_of("a.csv", "a,b\n", None).unwrap_err(), "no rows in a.csv");
        assert_eq!(
            rows_of("a.csv", "a\n1\n", Some(&["b"])).unwrap_err(),
            "no column `b` in a.csv:2 (columns present: a)"
        );
    }

    #[test]
    fn bad_text_is_named_with_its_line() {
        check_error(
            "{\"a\":1}\n{\"a\":",
            None,
            "broken JSON at a.jsonl:2:5: EOF while parsing a value",
        );
        check_error("\n[1]\n", None, "expected a JSON object at a.jsonl:2, found an array");
        check_error("", None, "no rows in a.jsonl");
        check_error(
            "{\"a\":1,\"c\":1}\n{\"c\":1,\"d\":2}\n",
            Some(&["a"]),
            "no column `a` in a.jsonl:2 (columns present: c, d)",
        );
    }

    #[test]
    fn rows_end_after_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "{}\nx\n{}\n").unwrap();
        let rows: Vec<_> = read_rows(&path, None).unwrap().map(|row| row.is_ok()).collect();
        assert_eq!(rows, [true, false]);
    }

    /// Two rows shaped like the published multiple-choice files: a struct of two lists of text.
    fn choices() -> RecordBatch {
        let lists = |items: Vec<&str>| -> ArrayRef {
            let items: ArrayRef = Arc::new(StringArray::from(items));
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([2, 1]), items, None))
        };
        let columns = vec![lists(vec!["ice", "fire", "rain"]), lists(vec!["A", "B", "1"])];
        let fields: Fields = ["text", "label"]
            .into_iter()
            .zip(&columns)
            .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
            .collect();
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef),
            ("choices", Arc::new(StructArray::new(fields, columns, None)) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn nested_parquet_becomes_nested_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arc.parquet");
        write(&path, &choices());
        let rows: Vec<_> = read_rows(&path, None)
            .unwrap()
            .map(|row| row.map(|row| (row.number, row.value)))
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows[0].0, 1);
        assert_eq!(
            Value::from(rows[0].1.clone()),
            json!({"id": 7, "choices": {"text": ["ice", "fire"], "label": ["A", "B"]}})
        );
        assert_eq!(
            Value::from(rows[1].1.clone()),
            json!({"id": 8, "choices": {"text": ["rain"], "label": ["1"]}})
        );
        let ids: Vec<_> = read_rows(&path, Some(&["id"])).unwrap().map(Result::unwrap).collect();
        assert_eq!(Value::from(ids[1].value.clone()), json!({"id": 8}));
    }

    #[test]
    fn a_parquet_file_without_rows_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, &choices().slice(0, 0));
        assert!(matches!(read_rows(&path, None), Err(TableError::Empty { .. })));
    }
}
