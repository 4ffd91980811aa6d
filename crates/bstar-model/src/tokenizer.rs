//! Text to token ids and back, around the `tokenizers` crate.
//!
//! A tokenizer is trained here or loaded from a folder, where it may be a vocabulary and merges
//! (`byte_level`); either way it becomes a plain `tokenizer.json` that `transformers` and vLLM open. Text never turns into a special token: a response that spells
//! `<eos>` is six characters. Prompts are encoded with what the tokenizer puts around a text (a
//! beginning-of-sequence token, say), responses without; the end-of-sequence token is added by
//! whoever trains. Decoding leaves special tokens and unknown ids out.

mod byte_level;

use crate::chat;
use crate::files::{self, FileError};
use bstar_core::{Fault, FaultClass};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

/// A tokenizer that cannot be made or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The operating system refused a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the tokenizer is broken.
    #[error("broken tokenizer {}: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// Vocabulary and merges of a class whose other rules are not known here.
    #[error(
        "the tokenizer of {} is a {class} without a tokenizer.json, and it is not known how that \
         class cuts texts",
        dir.display()
    )]
    UnknownClass {
        /// The folder.
        dir: PathBuf,
        /// The `tokenizer_class`.
        class: String,
    },
    /// Only the file of another library.
    #[error("{} has a tokenizer.model (SentencePiece) and no tokenizer.json", .0.display())]
    SentencePiece(PathBuf),
    /// Nothing in the folder says which token ends a response.
    #[error("no end-of-sequence token is named in {}", .0.display())]
    NoEos(PathBuf),
    /// A vocabulary too small for its bytes and special tokens.
    #[error("a byte-level tokenizer of {0} tokens is too small: it needs at least {SMALLEST_BPE}")]
    TooSmall(usize),
    /// A tokenizer from a folder refuses a text or tokens.
    #[error("the tokenizer of {} fails: {reason}", dir.display())]
    Refused {
        /// The folder.
        dir: PathBuf,
        /// What it says.
        reason: String,
    },
    /// A chat was asked for, and the model has no template for one.
    #[error("the model of {} has no chat template", .0.display())]
    NoChatTemplate(PathBuf),
    /// The chat template cannot be rendered.
    #[error("broken chat template in {}: {reason}", dir.display())]
    BrokenChatTemplate {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The library refuses a tokenizer of our own making.
    #[error("the tokenizer fails: {0}")]
    Library(String),
}

impl From<TokenizerError> for Fault {
    fn from(error: TokenizerError) -> Self {
        let message = error.to_string();
        match error {
            TokenizerError::File(error) => error.into(),
            TokenizerError::Broken { .. } => Self::new(FaultClass::Data, message)
                .hint("fetch the model folder again; its tokenizer file is damaged"),
            TokenizerError::UnknownClass { .. } | TokenizerError::SentencePiece(_) => {
                Self::new(FaultClass::Data, message).hint(
                    "write its tokenizer.json once, in Python with transformers: \
                     `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`",
                )
            }
            TokenizerError::NoEos(_) => Self::new(FaultClass::Data, message)
                .hint("set `eos_token_id` in config.json or `eos_token` in tokenizer_config.json"),
            TokenizerError::Refused { .. } => Self::new(FaultClass::Data, message)
                .hint("use a tokenizer that can encode any text, such as a byte-level one"),
            TokenizerError::NoChatTemplate(_) => Self::new(FaultClass::Usage, message)
                .hint("use a model that was taught to chat, or `task.files.style = \"paper\"`"),
            TokenizerError::BrokenChatTemplate { .. } => Self::new(FaultClass::Data, message)
                .hint("correct the template, or use `task.files.style = \"paper\"`"),
            TokenizerError::TooSmall(_) => Self::new(FaultClass::Usage, message)
                .hint("raise the vocabulary size, or use a character tokenizer"),
            TokenizerError::Library(_) => Self::new(FaultClass::Bug, message),
        }
    }
}

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Every token that ends a response in sampling.
    eos: Vec<u32>,
    /// The one of them that ends a response in training.
    taught_eos: u32,
    pad: Option<u32>,
    /// The files that make it up, by name, written out as they came.
    files: BTreeMap<&'static str, Vec<u8>>,
    /// Where it was loaded from, if it is not of our own making.
    dir: Option<PathBuf>,
    /// The tokens before and after a prompt that is a message of a chat.
    chat: Option<[Vec<u32>; 2]>,
}

impl Tokenizer {
    /// One token for each character of `texts`, in the order of their code points, after `<pad>`,
    /// `<eos>` and `<unk>`. Other characters become `<unk>`.
    pub fn characters<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let characters: BTreeSet<char> = texts.into_iter().flat_map(str::chars).collect();
        let mut vocabulary = Map::new();
        for (id, token) in SPECIAL_TOKENS.into_iter().enumerate() {
            vocabulary.insert(token.into(), json!(id));
        }
        for character in characters {
            let id = vocabulary.len();
            vocabulary.insert(character.to_string(), json!(id));
        }
        let added: Vec<Value> = SPECIAL_TOKENS.into_iter().enumerate().map(added_token).collect();
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            // Every character is a word of its own.
            "pre_tokenizer": {
                "type": "Split",
                "pattern": { "Regex": "[\\s\\S]" },
                "behavior": "Isolated",
                "invert": false,
            },
            "post_processor": null,
            // Without it, decoding would put spaces between words.
            "decoder": { "type": "Fuse" },
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": UNK },
        });
        Self::trained(&file.to_string()).expect("the file above is a valid tokenizer")
    }

    /// Byte-level BPE (any text can be encoded) with at most `vocab_size` tokens, the special ones
    /// included; every digit is a token of its own.
    pub fn train_bpe<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        if vocab_size < SMALLEST_BPE {
            return Err(TokenizerError::TooSmall(vocab_size));
        }
        let special = SPECIAL_TOKENS.map(|token| tokenizers::AddedToken::from(token, true));
        let mut trainer = TrainerWrapper::from(
            BpeTrainer::builder()
                .vocab_size(vocab_size)
                .show_progress(false)
                .special_tokens(special.to_vec())
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .build(),
        );
        let bytes = ByteLevel::new(false, true, true);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::from(Digits::new(true)),
            PreTokenizerWrapper::from(bytes),
        ])));
        inner.with_decoder(Some(bytes));
        let texts: Vec<&str> = texts.into_iter().collect();
        inner.train(&mut trainer, texts.into_iter()).map_err(library)?;
        Self::trained(&inner.to_string(false).map_err(library)?)
    }

    /// Loads `tokenizer.json` from a model folder, or makes it from the files of a byte-level
    /// tokenizer. `eos` are the end-of-sequence tokens that the model names; if it names none,
    /// `tokenizer_config.json` must. Where it names one of several, that is what ends a response in
    /// training: a model that was taught to chat ends its turn with it, and it need not be the first.
    pub fn load(dir: &Path, eos: &[u32]) -> Result<Self, TokenizerError> {
        let mut found = BTreeMap::new();
        for name in FILES {
            let path = dir.join(name);
            if path.exists() {
                found.insert(name, files::read(&path)?);
            }
        }
        let is_made = !found.contains_key(TOKENIZER_JSON);
        if is_made {
            found.insert(TOKENIZER_JSON, from_other_files(dir, &found)?);
        }
        let inner = parse(&found[TOKENIZER_JSON]).map_err(|reason| {
            let path = dir.join(if is_made { byte_level::VOCABULARY } else { TOKENIZER_JSON });
            TokenizerError::Broken { path, reason }
        })?;
        if is_made {
            byte_level::check_ids(dir, &found[TOKENIZER_JSON], &inner)?;
        }
        let config = match found.get(TOKENIZER_CONFIG) {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(bytes).map_err(|error| {
                let path = dir.join(TOKENIZER_CONFIG);
                TokenizerError::Broken { path, reason: error.to_string() }
            })?,
        };
        let named = |field: &str| {
            let token = &config[field];
            let token = token.as_str().or_else(|| token["content"].as_str())?;
            inner.token_to_id(token)
        };
        let eos = match eos {
            [] => vec![named("eos_token").ok_or_else(|| TokenizerError::NoEos(dir.into()))?],
            named => named.to_vec(),
        };
        let taught_eos = named("eos_token").filter(|token| eos.contains(token)).unwrap_or(eos[0]);
        let pad = named("pad_token");
        let dir = Some(dir.into());
        Ok(Self { taught_eos, dir, ..Self::assembled(inner, eos, pad, found) })
    }

    /// Writes the files of the tokenizer into a folder.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        for (name, bytes) in &self.files {
            files::write_synced(&dir.join(name), bytes)?;
        }
        Ok(())
    }

    /// Bytes of the files that [`Tokenizer::save`] writes.
    pub fn file_bytes(&self) -> f64 {
        self.files.values().map(|bytes| bytes.len() as f64).sum()
    }

    /// Tokens in all; ids are below it.
    pub fn vocab_size(&self) -> usize {
        let highest = self.inner.get_vocab(true).into_values().max();
        highest.map_or(0, |id| id as usize + 1)
    }

    /// The token that ends a response in training.
    pub fn eos(&self) -> u32 {
        self.taught_eos
    }

    /// Every token that ends a response in sampling; not empty.
    pub fn eos_tokens(&self) -> &[u32] {
        &self.eos
    }

    /// The padding token, if there is one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// From now on a prompt is a user's message, put into the chat template of the model.
    pub fn use_chat_template(&mut self) -> Result<(), TokenizerError> {
        let dir = self.dir.clone().unwrap_or_default();
        let broken =
            |reason: String| TokenizerError::BrokenChatTemplate { dir: dir.clone(), reason };
        let text = |name| match self.files.get(name) {
            Some(bytes) => std::str::from_utf8(bytes).map(Some),
            None => Ok(None),
        };
        let config = text(TOKENIZER_CONFIG).map_err(|error| broken(error.to_string()))?;
        let config = config.map_or(Ok(Value::Null), serde_json::from_str);
        let config = config.map_err(|error| broken(error.to_string()))?;
        let file = text(CHAT_TEMPLATE).map_err(|error| broken(error.to_string()))?;
        let (before, after) = chat::around(&config, file)
            .ok_or_else(|| TokenizerError::NoChatTemplate(dir.clone()))?
            .map_err(broken)?;
        // Only here may text be a special token: a template is the model's own.
        let mut inner = self.inner.clone();
        inner.set_encode_special_tokens(false);
        let encode = |text: &str| match inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(self.refused(&error)),
        };
        self.chat = Some([encode(&before)?, encode(&after)?]);
        Ok(())
    }

    /// Whether prompts are messages of a chat.
    pub fn is_chat(&self) -> bool {
        self.chat.is_some()
    }

    /// The tokens of a prompt, with what the tokenizer puts before a text; an end-of-sequence
    /// token that it would put after it is left out.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, TokenizerError> {
        if let Some([before, after]) = &self.chat {
            return Ok([&before[..], &self.encode(prompt, false)?, after].concat());
        }
        let mut tokens = self.encode(prompt, true)?;
        if tokens.last().is_some_and(|last| self.eos.contains(last)) {
            tokens.pop();
        }
        Ok(tokens)
    }

    /// The tokens of a response, without an end-of-sequence token.
    pub fn encode_response(&self, response: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode(response, false)
    }

    /// The tokens of a response, and for each the byte at which its text ends.
    pub(crate) fn encode_with_ends(
        &self,
        response: &str,
    ) -> Result<(Vec<u32>, Vec<usize>), TokenizerError> {
        let encoding = self.inner.encode(response, false).map_err(|error| self.refused(&error))?;
        let ends = encoding.get_offsets().iter().map(|(_, end)| *end).collect();
        Ok((encoding.get_ids().to_vec(), ends))
    }

    /// The token that stands for text which the vocabulary does not hold, where there is one.
    pub fn unknown(&self) -> Option<u32> {
        let token = match self.inner.get_model() {
            ModelWrapper::WordLevel(model) => Some(model.unk_token.as_str()),
            ModelWrapper::BPE(model) => model.unk_token.as_deref(),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.as_str()),
            ModelWrapper::Unigram(_) => None,
        };
        self.inner.token_to_id(token?)
    }

    /// The text of tokens, without special and unknown ones.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(tokens, true).map_err(|error| self.refused(&error))
    }

    fn encode(&self, text: &str, around: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding =
            self.inner.encode_fast(text, around).map_err(|error| self.refused(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    fn refused(&self, error: &tokenizers::Error) -> TokenizerError {
        match &self.dir {
            Some(dir) => TokenizerError::Refused { dir: dir.clone(), reason: error.to_string() },
            None => TokenizerError::Library(error.to_string()),
        }
    }

    /// A tokenizer of our own making, from the text of its `tokenizer.json`.
    fn trained(file: &str) -> Result<Self, TokenizerError> {
        let inner = tokenizers::Tokenizer::from_bytes(file).map_err(library)?;
        let id = |token| inner.token_to_id(token).expect("special tokens are in the vocabulary");
        let (eos, pad) = (id(EOS), id(PAD));
        let special = json!({ "eos_token": EOS, "pad_token": PAD, "unk_token": UNK });
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": EOS,
            "pad_token": PAD,
            "unk_token": UNK,
            "clean_up_tokenization_spaces": false,
        });
        let files = BTreeMap::from([
            (TOKENIZER_JSON, pretty(&serde_json::from_str(file).expect("written as JSON"))),
            (TOKENIZER_CONFIG, pretty(&config)),
            (SPECIAL_TOKENS_MAP, pretty(&special)),
        ]);
        Ok(Self::assembled(inner, vec![eos], Some(pad), files))
    }

    fn assembled(
        mut inner: tokenizers::Tokenizer,
        eos: Vec<u32>,
        pad: Option<u32>,
        files: BTreeMap<&'static str, Vec<u8>>,
    ) -> Self {
        // Text that spells a special token stays text.
        inner.set_encode_special_tokens(true);
        inner.with_padding(None);
        inner.with_truncation(None).expect("no truncation is always valid");
        let taught_eos = eos[0];
        Self { inner, eos, taught_eos, pad, files, dir: None, chat: None }
    }
}

const PAD: &str = "<pad>";
const EOS: &str = "<eos>";
const UNK: &str = "<unk>";
const SPECIAL_TOKENS: [&str; 3] = [PAD, EOS, UNK];

const TOKENIZER_JSON: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// What may make up a tokenizer; only the first is needed.
pub(crate) const FILES: [&str; 5] =
    [TOKENIZER_JSON, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, "added_tokens.json", CHAT_TEMPLATE];

/// Reads a `tokenizer.json`. The library panics on some damaged ones: those are broken files too.
fn parse(file: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    match std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(file)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("the library that reads it gives up".into()),
    }
}

/// What stands for a `tokenizer.json` that is not there.
fn from_other_files(
    dir: &Path,
    found: &BTreeMap<&'static str, Vec<u8>>,
) -> Result<Vec<u8>, TokenizerError> {
    let has = |name| dir.join(name).exists();
    if has(byte_level::VOCABULARY) && has(byte_level::MERGES) {
        return byte_level::tokenizer_json(dir, found);
    }
    if has("tokenizer.model") {
        return Err(TokenizerError::SentencePiece(dir.into()));
    }
    Ok(files::read(&dir.join(TOKENIZER_JSON))?)
}

/// All bytes and the special tokens.
const SMALLEST_BPE: usize = 256 + SPECIAL_TOKENS.len();

fn added_token((id, token): (usize, &str)) -> Value {
    json!({
        "id": id,
        "content": token,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a JSON value can be written");
    text.push(b'\n');
    text
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` asks for")]
fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}

#[cfg(test)]
mod tests;
