//! The tokens of texts: reads JSON strings from stdin, a line each, and writes for each its token ids
//! and the text that they decode to.
//!
//! `cargo run -p bstar-model --example encode -- FOLDER < texts.jsonl`, which
//! `scripts/compare_tokenizers.py` does.

#![expect(clippy::print_stdout, reason = "its result")]

use bstar_model::tokenizer::Tokenizer;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("name the folder of a tokenizer")?;
    let tokenizer = Tokenizer::load(Path::new(&folder), &[0])?;
    for line in std::io::stdin().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let tokens = tokenizer.encode_response(&text)?;
        println!("{}", serde_json::json!([tokens, tokenizer.decode(&tokens)?]));
    }
    Ok(())
}
