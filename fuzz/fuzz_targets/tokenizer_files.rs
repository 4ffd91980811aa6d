//! A vocabulary, merges and a tokenizer config, apart by lines of `---`: the folder is refused with an error
//! that names a file, or the tokenizer encodes and decodes without panic.
#![no_main]

use bstar_model::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const FILES: [&str; 4] =
    ["vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"];

fuzz_target!(|input: &[u8]| {
    let dir = folder();
    for file in FILES {
        let _ = std::fs::remove_file(dir.join(file));
    }
    for (file, text) in FILES.iter().zip(parts(input)) {
        std::fs::write(dir.join(file), text).expect("a file");
    }
    match Tokenizer::load(dir, &[1]) {
        Ok(tokenizer) => {
            for text in ["", "one 1 <eos>\n\n  zwölf", "\u{1F600} \r\n\t"] {
                if let Ok(tokens) = tokenizer.encode_prompt(text) {
                    let _ = tokenizer.decode(&tokens);
                }
            }
        }
        Err(error) => assert!(error.to_string().contains(&*dir.to_string_lossy()), "{error}"),
    }
});

/// The input at lines of `---`.
fn parts(input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(5).position(|line| line == b"\n---\n") {
        parts.push(&rest[..at]);
        rest = &rest[at + 5..];
    }
    parts.push(rest);
    parts
}

/// A folder of this process, in memory where the system has such a place.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shared = Path::new("/dev/shm");
        let place = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let folder = place.join(format!("bstar-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    })
}
