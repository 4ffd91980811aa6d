//! Published data files are read whole: as many rows as their publishers count, with the columns
//! that they describe.
//!
//! The files lie outside the repository, in the folder that `BSTAR_SHARED` names or in `shared`
//! beside the checkout; where one is missing the test says so and goes on with the others.

use bstar_table::read_rows;
use std::path::PathBuf;

#[test]
fn published_files_have_as_many_rows_as_their_publishers_count() {
    let folder = std::env::var_os("BSTAR_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    for (name, columns, rows) in [
        ("gsm8k/train.jsonl", vec!["question", "answer"], 7473),
        ("gsm8k/test.jsonl", vec!["question", "answer"], 1319),
        ("math/train.jsonl.gz", vec!["problem", "level", "solution"], 7500),
        ("arc_challenge/test.jsonl", vec!["id", "question", "choices", "answerKey"], 1172),
        ("humaneval/HumanEval.jsonl.gz", vec!["task_id", "prompt", "test"], 164),
    ] {
        let path = folder.join("data").join(name);
        if !path.exists() {
            eprintln!("skipped: no {name} in the shared data");
            continue;
        }
        let read: Vec<_> = read_rows(&path, Some(&columns)).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), rows, "{name}");
        assert_eq!(read[rows - 1].number, rows as u64, "{name}");
        assert!(read.iter().all(|row| row.value.len() == columns.len()), "{name}");
    }
}
