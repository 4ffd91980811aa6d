//! Rows of the data that lies outside the repository.

use flate2::read::GzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// The rows of a JSON Lines file of the shared data; none where it is not there.
pub(crate) fn rows(name: &str) -> Option<Vec<Value>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = root.join(name);
    let Ok(file) = File::open(&path) else {
        println!("skipped: no {}", path.display());
        return None;
    };
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let lines = BufReader::new(reader).lines().map(|line| line.expect("readable text"));
    Some(lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect())
}

/// A text of a row; empty where it has none.
pub(crate) fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}
