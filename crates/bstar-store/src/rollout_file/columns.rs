//! Parquet columns in the few types that the compact path works on, leniently cast.
//!
//! A column that is missing, or of Arrow type null, is `None`. Text of every layout becomes
//! [`StringArray`]; integers and floats become one another where no value changes; a float32
//! becomes the float64 of the same shortest decimal, as in `bstar-table`.

use super::RolloutFileError;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeListArray, RecordBatch,
    StringArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use std::path::Path;
use std::sync::Arc;

/// The columns of a record batch.
pub(super) struct Columns<'a> {
    pub(super) path: &'a Path,
    pub(super) batch: &'a RecordBatch,
}

type Column<T> = Result<Option<T>, RolloutFileError>;

impl Columns<'_> {
    /// Text.
    pub(super) fn text(&self, name: &'static str) -> Column<StringArray> {
        let Some(column) = self.present(name) else { return Ok(None) };
        if !is_text(column.data_type()) {
            return Err(self.bad(name, "text", column.data_type()));
        }
        self.cast(name, column, &DataType::Utf8).map(|column| Some(column.as_string().clone()))
    }

    /// Text, or whole numbers as text.
    pub(super) fn id(&self, name: &'static str) -> Column<StringArray> {
        let Some(column) = self.present(name) else { return Ok(None) };
        if !is_text(column.data_type()) && !column.data_type().is_integer() {
            return Err(self.bad(name, "text or whole numbers", column.data_type()));
        }
        self.cast(name, column, &DataType::Utf8).map(|column| Some(column.as_string().clone()))
    }

    /// Numbers.
    pub(super) fn floats(&self, name: &'static str) -> Column<Float64Array> {
        let Some(column) = self.present(name) else { return Ok(None) };
        self.as_floats(name, column).map(Some)
    }

    /// Whole numbers, as integers or as floats.
    pub(super) fn wholes(&self, name: &'static str) -> Column<Int64Array> {
        let Some(column) = self.present(name) else { return Ok(None) };
        if column.data_type().is_floating() {
            let floats = finite(&self.as_floats(name, column)?);
            if floats.iter().flatten().any(|value| value.fract() != 0.0) {
                return Err(self.bad(name, "whole numbers", column.data_type()));
            }
            let column = self.cast(name, &(Arc::new(floats) as ArrayRef), &DataType::Int64)?;
            return Ok(Some(column.as_primitive::<Int64Type>().clone()));
        }
        if !column.data_type().is_integer() {
            return Err(self.bad(name, "whole numbers", column.data_type()));
        }
        let column = self.cast(name, column, &DataType::Int64)?;
        Ok(Some(column.as_primitive::<Int64Type>().clone()))
    }

    /// Booleans, or integers 0 and 1.
    pub(super) fn flags(&self, name: &'static str) -> Column<BooleanArray> {
        let Some(column) = self.present(name) else { return Ok(None) };
        if column.data_type() == &DataType::Boolean {
            return Ok(Some(column.as_boolean().clone()));
        }
        let bad = || self.bad(name, "true or false", column.data_type());
        if !column.data_type().is_numeric() {
            return Err(bad());
        }
        let numbers = finite(&self.as_floats(name, column)?);
        if numbers.iter().flatten().any(|value| value != 0.0 && value != 1.0) {
            return Err(bad());
        }
        Ok(Some(numbers.iter().map(|value| value.map(|value| value == 1.0)).collect()))
    }

    /// Lists of numbers: where each list lies, and the numbers of all.
    pub(super) fn float_lists(&self, name: &'static str) -> Column<(LargeListArray, Float64Array)> {
        let Some(column) = self.present(name) else { return Ok(None) };
        let (DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)) = column.data_type()
        else {
            return Err(self.bad(name, "lists of numbers", column.data_type()));
        };
        let lists = self.cast(name, column, &DataType::LargeList(item.clone()))?;
        let lists = lists.as_list::<i64>().clone();
        let numbers = self.as_floats(name, lists.values())?;
        Ok(Some((lists, numbers)))
    }

    fn as_floats(
        &self,
        name: &'static str,
        column: &ArrayRef,
    ) -> Result<Float64Array, RolloutFileError> {
        match column.data_type() {
            DataType::Float16 | DataType::Float32 => {
                let column = self.cast(name, column, &DataType::Float32)?;
                let shortest = |value: f32| value.to_string().parse::<f64>().ok();
                let floats = column.as_primitive::<Float32Type>().iter();
                Ok(floats.map(|value| value.and_then(shortest)).collect())
            }
            kind if kind.is_numeric() || kind == &DataType::Null => {
                let column = self.cast(name, column, &DataType::Float64)?;
                Ok(column.as_primitive::<Float64Type>().clone())
            }
            other => Err(self.bad(name, "numbers", other)),
        }
    }

    fn present(&self, name: &str) -> Option<&ArrayRef> {
        self.batch.column_by_name(name).filter(|column| column.data_type() != &DataType::Null)
    }

    fn cast(
        &self,
        name: &'static str,
        column: &ArrayRef,
        to: &DataType,
    ) -> Result<ArrayRef, RolloutFileError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(column, to, &strict)
            .map_err(|_| self.bad(name, "values in range", column.data_type()))
    }

    fn bad(
        &self,
        column: &'static str,
        expected: &'static str,
        found: &DataType,
    ) -> RolloutFileError {
        let (path, found) = (self.path.to_owned(), found.to_string());
        RolloutFileError::BadColumn { path, column, expected, found }
    }
}

/// The numbers with NaN and infinities as nulls, as they come in JSON.
fn finite(numbers: &Float64Array) -> Float64Array {
    numbers.iter().map(|value| value.filter(|value| value.is_finite())).collect()
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        kind => matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}
