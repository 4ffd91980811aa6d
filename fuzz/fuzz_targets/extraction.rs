//! A response and, on its first line, a gold answer: an answer that is found is not empty, and
//! grading never fails.
#![no_main]

use bstar_verify::math::{Options, answer, grade};
use bstar_verify::{Rule, choice, extract};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (gold, response) = text.split_once('\n').unwrap_or(("5", text));
    let found = answer::find(response);
    assert!(found.is_none_or(|answer| !answer.is_empty()), "{response:?}");
    assert!(choice::find(response).is_none_or(|letter| letter.len() == 1), "{response:?}");
    let graded = grade(response, gold, &Options::default());
    assert!(graded.extracted.is_none_or(|answer| !answer.is_empty()), "{response:?}");
    let rules = [
        Rule::Boxed,
        Rule::AfterLast("####".into()),
        Rule::FinalAnswerLetter,
        Rule::AnswerIs,
        Rule::AfterLastEquals,
        Rule::LastNumber,
        Rule::LastLine,
    ];
    for rule in rules {
        let answer = extract(response, &[rule]);
        assert!(answer.is_none_or(|answer| !answer.is_empty()), "{response:?}");
    }
});
