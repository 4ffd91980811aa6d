//! Text to token ids and back, around the `tokenizers` crate.
//!
//! A tokenizer is trained here or loaded from a folder; either way it is a plain `tokenizer.json`
//! that `transformers` and vLLM open. Text never turns into a special token: a response that spells
//! `<eos>` is six characters. Prompts are encoded with what the tokenizer puts around a text (a
//! beginning-of-sequence token, say), responses without; the end-of-sequence token is added by
//! whoever trains. Decoding leaves special tokens and unknown ids out.

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
    eos: Vec<u32>,
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

    /// Loads `tokenizer.json` from a model folder. `eos` are the end-of-sequence tokens that the
    /// model names; if it names none, `tokenizer_config.json` must.
    pub fn load(dir: &Path, eos: &[u32]) -> Result<Self, TokenizerError> {
        let mut found = BTreeMap::new();
        for name in FILES {
            let path = dir.join(name);
            if name == TOKENIZER_JSON || path.exists() {
                found.insert(name, files::read(&path)?);
            }
        }
        let inner = tokenizers::Tokenizer::from_bytes(&found[TOKENIZER_JSON]).map_err(|error| {
            TokenizerError::Broken { path: dir.join(TOKENIZER_JSON), reason: error.to_string() }
        })?;
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
        let pad = named("pad_token");
        Ok(Self { dir: Some(dir.into()), ..Self::assembled(inner, eos, pad, found) })
    }

    /// Writes the files of the tokenizer into a folder.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        for (name, bytes) in &self.files {
            files::write_synced(&dir.join(name), bytes)?;
        }
        Ok(())
    }

    /// Tokens in all; ids are below it.
    pub fn vocab_size(&self) -> usize {
        let highest = self.inner.get_vocab(true).into_values().max();
        highest.map_or(0, |id| id as usize + 1)
    }

    /// The token that ends a response in training.
    pub fn eos(&self) -> u32 {
        self.eos[0]
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
        Self { inner, eos, pad, files, dir: None, chat: None }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXTS: [&str; 3] = ["6-6,5*9-1=", "6-6,5-1=6-6,4\n", "Zoë said: 12 + 30 = 42 "];

    fn tokenizers() -> Vec<Tokenizer> {
        vec![Tokenizer::characters(TEXTS), Tokenizer::train_bpe(TEXTS, 270).unwrap()]
    }

    #[test]
    fn a_character_tokenizer_has_the_special_tokens_and_the_characters_in_order() {
        let tokenizer = Tokenizer::characters(["cab", "abba"]);
        assert_eq!(tokenizer.vocab_size(), 6);
        assert_eq!(tokenizer.encode_response("abcx").unwrap(), [3, 4, 5, 2]);
        assert_eq!((tokenizer.eos(), tokenizer.pad()), (1, Some(0)));
    }

    #[test]
    fn text_survives_the_round_trip() {
        for tokenizer in tokenizers() {
            for text in TEXTS {
                let tokens = tokenizer.encode_response(text).unwrap();
                assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
            }
        }
    }

    #[test]
    fn special_tokens_do_not_come_from_text_and_do_not_show_in_it() {
        for tokenizer in tokenizers() {
            let tokens = tokenizer.encode_prompt("<eos><pad>").unwrap();
            assert!(!tokens.contains(&0) && !tokens.contains(&1), "{tokens:?}");
            let mut tokens = tokenizer.encode_response("12").unwrap();
            tokens.extend([1, 0, 99_999]);
            assert_eq!(tokenizer.decode(&tokens).unwrap(), "12");
        }
    }

    #[test]
    fn digits_are_tokens_of_their_own_under_bpe() {
        let texts = ["1234 1234 1234 1234"; 50];
        let tokenizer = Tokenizer::train_bpe(texts, 300).unwrap();
        assert_eq!(tokenizer.encode_response("1234").unwrap().len(), 4);
    }

    #[test]
    fn training_is_deterministic_and_bounded() {
        let text = "the cat sat on the mat and the hat of the cat was flat ".repeat(9);
        let train = || Tokenizer::train_bpe([text.as_str()], 280).unwrap();
        let first = train();
        assert_eq!(first.vocab_size(), 280);
        for _ in 0..5 {
            assert_eq!(train().files, first.files);
        }
        let error = Tokenizer::train_bpe([text.as_str()], 100).unwrap_err();
        assert_eq!(Fault::from(error).class, FaultClass::Usage);
    }

    #[test]
    fn a_saved_tokenizer_loads_as_it_was() {
        for tokenizer in tokenizers() {
            let dir = tempfile::tempdir().unwrap();
            tokenizer.save(dir.path()).unwrap();
            let loaded = Tokenizer::load(dir.path(), &[]).unwrap();
            assert_eq!(loaded.eos_tokens(), tokenizer.eos_tokens());
            assert_eq!(loaded.pad(), tokenizer.pad());
            assert_eq!(loaded.files, tokenizer.files);
            assert_eq!(
                loaded.encode_prompt(TEXTS[1]).unwrap(),
                tokenizer.encode_prompt(TEXTS[1]).unwrap()
            );
        }
    }

    #[test]
    fn only_a_chat_template_makes_special_tokens() {
        let dir = tempfile::tempdir().unwrap();
        tokenizers()[1].save(dir.path()).unwrap();
        let mut loaded = Tokenizer::load(dir.path(), &[]).unwrap();
        assert!(matches!(loaded.use_chat_template(), Err(TokenizerError::NoChatTemplate(_))));
        let template = "<pad>{{ messages[0].content }}<eos>\n";
        std::fs::write(dir.path().join(CHAT_TEMPLATE), template).unwrap();
        let mut loaded = Tokenizer::load(dir.path(), &[]).unwrap();
        let plain = loaded.encode_prompt("1<eos>").unwrap();
        loaded.use_chat_template().unwrap();
        let tokens = loaded.encode_prompt("1<eos>").unwrap();
        let (pad, eos) = (loaded.pad().unwrap(), loaded.eos());
        assert_eq!((tokens[0], &tokens[1..=plain.len()]), (pad, &plain[..]));
        assert_eq!(tokens[plain.len() + 1], eos);
        assert!(!plain.contains(&eos));
    }

    #[test]
    fn a_broken_tokenizer_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Fault::from(Tokenizer::load(dir.path(), &[]).unwrap_err());
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.ends_with("tokenizer.json"), "{fault}");
        std::fs::write(dir.path().join("tokenizer.json"), "{\"model\": ").unwrap();
        let fault = Fault::from(Tokenizer::load(dir.path(), &[]).unwrap_err());
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.contains("tokenizer.json: "), "{fault}");
    }

    #[test]
    fn a_text_that_a_loaded_tokenizer_cannot_encode_is_its_fault() {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::characters(["ab"]).save(dir.path()).unwrap();
        let path = dir.path().join(TOKENIZER_JSON);
        let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        file["model"]["unk_token"] = json!("<nowhere>");
        std::fs::write(&path, file.to_string()).unwrap();
        let tokenizer = Tokenizer::load(dir.path(), &[]).unwrap();
        assert_eq!(tokenizer.encode_response("ab").unwrap().len(), 2);
        let fault = Fault::from(tokenizer.encode_response("abc").unwrap_err());
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.contains(&dir.path().display().to_string()), "{fault}");
    }

    #[test]
    fn a_folder_without_an_end_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::characters(["ab"]).save(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join(TOKENIZER_CONFIG)).unwrap();
        let fault = Fault::from(Tokenizer::load(dir.path(), &[]).unwrap_err());
        assert!(fault.message.contains("end-of-sequence"), "{fault}");
        assert_eq!(Tokenizer::load(dir.path(), &[1]).unwrap().eos(), 1);
    }

    proptest! {
        #[test]
        fn any_text_survives_byte_level_bpe(text in ".*") {
            let tokenizer = Tokenizer::train_bpe(TEXTS, 270).unwrap();
            let tokens = tokenizer.encode_response(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        }

        #[test]
        fn any_text_of_known_characters_survives_one_token_a_character(text in "[a-z \n<>=+é]*") {
            let all = "abcdefghijklmnopqrstuvwxyz \n<>=+é";
            let tokenizer = Tokenizer::characters([all]);
            let tokens = tokenizer.encode_response(&text).unwrap();
            prop_assert_eq!(tokens.len(), text.chars().count());
            prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        }
    }
}
