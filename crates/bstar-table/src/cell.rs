//! One cell of an Arrow array as a JSON value.
//!
//! Text, booleans and numbers become their JSON kind; lists become arrays, structs and maps become
//! objects; dates, times and decimals become text as Arrow shows them; bytes become text where they
//! are UTF-8. A float32 becomes the float64 of the same shortest decimal (0.7 stays 0.7, as it would
//! in JSON). NaN and infinities, which JSON lacks, become null. Other types (unions, intervals) are
//! refused with the name of the column.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray,
};
use arrow_buffer::ArrowNativeType;
use arrow_cast::cast;
use arrow_schema::DataType;
use serde_json::{Map, Value};

/// The values of a whole column, one for each row.
pub(crate) fn column_values(array: &ArrayRef) -> Result<Vec<Value>, DataType> {
    use DataType as T;
    match array.data_type() {
        T::Null => Ok(vec![Value::Null; array.len()]),
        T::Boolean => Ok(array.as_boolean().iter().map(Value::from).collect()),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => {
            let array = cast_to(array, &T::Int64)?;
            Ok(array.as_primitive::<Int64Type>().iter().map(Value::from).collect())
        }
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            let array = cast_to(array, &T::UInt64)?;
            Ok(array.as_primitive::<UInt64Type>().iter().map(Value::from).collect())
        }
        T::Float16 | T::Float32 => {
            let array = cast_to(array, &T::Float32)?;
            let shortest = |value: f32| value.to_string().parse::<f64>().ok();
            let floats = array.as_primitive::<Float32Type>();
            Ok(floats.iter().map(|value| Value::from(value.and_then(shortest))).collect())
        }
        T::Float64 => Ok(array.as_primitive::<Float64Type>().iter().map(Value::from).collect()),
        T::List(_) => list_values(array.as_list::<i32>()),
        T::LargeList(_) => list_values(array.as_list::<i64>()),
        T::ListView(item) | T::LargeListView(item) => {
            column_values(&cast_to(array, &T::LargeList(item.clone()))?)
        }
        T::FixedSizeList(_, _) => fixed_list_values(array.as_fixed_size_list()),
        T::Struct(_) => struct_values(array.as_struct()),
        T::Map(_, _) => map_values(array.as_map()),
        T::Dictionary(_, item) => column_values(&cast_to(array, item)?),
        T::RunEndEncoded(_, item) => column_values(&cast_to(array, item.data_type())?),
        T::Union(_, _) | T::Interval(_) | T::Duration(_) => Err(array.data_type().clone()),
        // Text of every layout, bytes, dates, times and decimals.
        _ => {
            let array = cast_to(array, &T::Utf8)?;
            Ok(array.as_string::<i32>().iter().map(Value::from).collect())
        }
    }
}

fn cast_to(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, DataType> {
    cast(array, to).map_err(|_| array.data_type().clone())
}

fn list_values<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Result<Vec<Value>, DataType> {
    let items = column_values(list.values())?;
    let ends = list.value_offsets();
    Ok((0..list.len())
        .map(|row| {
            let range = ends[row].as_usize()..ends[row + 1].as_usize();
            if list.is_null(row) { Value::Null } else { Value::from(&items[range]) }
        })
        .collect())
}

fn fixed_list_values(list: &FixedSizeListArray) -> Result<Vec<Value>, DataType> {
    let items = column_values(list.values())?;
    let length = list.value_length().as_usize();
    Ok((0..list.len())
        .map(|row| {
            let range = row * length..(row + 1) * length;
            if list.is_null(row) { Value::Null } else { Value::from(&items[range]) }
        })
        .collect())
}

fn struct_values(array: &StructArray) -> Result<Vec<Value>, DataType> {
    let mut rows = vec![Map::new(); array.len()];
    for (field, column) in array.fields().iter().zip(array.columns()) {
        for (row, value) in rows.iter_mut().zip(column_values(column)?) {
            row.insert(field.name().clone(), value);
        }
    }
    let value =
        |(row, fields)| if array.is_null(row) { Value::Null } else { Value::Object(fields) };
    Ok(rows.into_iter().enumerate().map(value).collect())
}

fn map_values(array: &MapArray) -> Result<Vec<Value>, DataType> {
    let keys = column_values(array.keys())?;
    let values = column_values(array.values())?;
    let ends = array.value_offsets();
    let object = |row: usize| {
        let entries = ends[row].as_usize()..ends[row + 1].as_usize();
        entries.map(|entry| (key_text(&keys[entry]), values[entry].clone())).collect()
    };
    Ok((0..array.len())
        .map(|row| if array.is_null(row) { Value::Null } else { Value::Object(object(row)) })
        .collect())
}

fn key_text(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::Int32Type;
    use arrow_array::{
        BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
        LargeStringArray, ListArray, StringViewArray, UInt64Array,
    };
    use arrow_schema::{Field, Fields};
    use serde_json::json;
    use std::sync::Arc;

    fn check(array: impl Array + 'static, expected: &Value) {
        let array: ArrayRef = Arc::new(array);
        assert_eq!(Value::from(column_values(&array).unwrap()), *expected);
    }

    #[test]
    fn scalars_become_their_json_kind() {
        check(BooleanArray::from(vec![Some(true), None]), &json!([true, null]));
        check(Int8Array::from(vec![-3, 4]), &json!([-3, 4]));
        check(UInt64Array::from(vec![u64::MAX]), &json!([u64::MAX]));
        check(Float32Array::from(vec![0.7, f32::NAN]), &json!([0.7, null]));
        check(Float64Array::from(vec![0.1, f64::INFINITY]), &json!([0.1, null]));
        check(LargeStringArray::from(vec![Some("a"), None]), &json!(["a", null]));
        check(
            StringViewArray::from(vec!["a longer text, out of line"]),
            &json!(["a longer text, out of line"]),
        );
        check(Date32Array::from(vec![19_000]), &json!(["2022-01-08"]));
        check(
            vec!["b", "a", "b"].into_iter().collect::<DictionaryArray<Int32Type>>(),
            &json!(["b", "a", "b"]),
        );
    }

    #[test]
    fn lists_and_structs_nest() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        check(lists.clone(), &json!([[1, null], null, []]));
        check(lists.slice(1, 2), &json!([null, []]));
        let names: ArrayRef = Arc::new(LargeStringArray::from(vec!["x", "y", "z"]));
        let fields = Fields::from(vec![
            Field::new("name", names.data_type().clone(), true),
            Field::new("scores", lists.data_type().clone(), true),
        ]);
        check(
            StructArray::new(fields, vec![names, Arc::new(lists)], None),
            &json!([
                {"name": "x", "scores": [1, null]},
                {"name": "y", "scores": null},
                {"name": "z", "scores": []},
            ]),
        );
    }
}
