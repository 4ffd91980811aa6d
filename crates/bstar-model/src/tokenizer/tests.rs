//! What survives the round trip, what is special, and what is refused.

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
