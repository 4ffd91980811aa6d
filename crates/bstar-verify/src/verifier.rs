//! Which comparison applies to a kind of answer, and what it can say.
//!
//! A comparison never fails: where it does not understand an answer it says so, and the caller
//! decides what that means for a reward.

use crate::math::{Judgement, Reason};
use crate::{choice, exact, extraction, math, number};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers longer than this many bytes are not compared.
pub(crate) const MAX_ANSWER: usize = 16 * 1024;

/// What a comparison of two answers says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// They are the same answer.
    Same,
    /// They are different answers.
    Different,
    /// The comparison does not understand one of them.
    CannotTell,
}

impl Sameness {
    /// Same or different.
    pub fn of(is_same: bool) -> Self {
        if is_same { Self::Same } else { Self::Different }
    }
}

/// How an answer is compared with the gold answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// Text, up to white space.
    Exact,
    /// The last number of the answer, exactly up to 10^-6.
    Number,
    /// An option letter in either case.
    Choice,
    /// Mathematical text: equal as text, as numbers or as expressions (fractions, roots, functions,
    /// tuples, sets, intervals, matrices, equations, units, words). A percent sign or a unit may be
    /// missing on one side, and a decimal of six digits or more may be rounded.
    Math,
}

impl Verifier {
    /// Compares an answer with the gold answer.
    pub fn compare(self, answer: &str, gold: &str) -> Sameness {
        self.judge(answer, gold).sameness
    }

    /// Compares an answer with the gold answer, and says why.
    pub fn judge(self, answer: &str, gold: &str) -> Judgement {
        if answer.len() > MAX_ANSWER || gold.len() > MAX_ANSWER {
            return Judgement { sameness: Sameness::CannotTell, reason: Reason::TooLong };
        }
        let (sameness, equal) = match self {
            Self::Exact => (exact::compare(answer, gold), Reason::EqualText),
            Self::Number => (compare_last_numbers(answer, gold), Reason::EqualNumbers),
            Self::Choice => (choice::compare(answer, gold), Reason::EqualText),
            Self::Math => return judge_math(answer, gold),
        };
        let reason = match sameness {
            Sameness::Same => equal,
            Sameness::Different => Reason::DifferentValue,
            Sameness::CannotTell => Reason::CannotParse,
        };
        Judgement { sameness, reason }
    }

    /// Whether a gold answer is of the kind that this comparison understands.
    pub fn understands(self, gold: &str) -> bool {
        !gold.trim().is_empty() && self.compare(gold, gold) == Sameness::Same
    }
}

fn compare_last_numbers(answer: &str, gold: &str) -> Sameness {
    // An answer that is a number as a whole may be of a form that cannot be searched for.
    if let whole @ (Sameness::Same | Sameness::Different) = number::compare(answer, gold) {
        return whole;
    }
    match number::last_in(answer) {
        Some(last) => number::compare(last, gold),
        None => Sameness::CannotTell,
    }
}

fn judge_math(answer: &str, gold: &str) -> Judgement {
    let [answer, gold] = [answer, gold].map(|text| extraction::last_boxed(text).unwrap_or(text));
    math::judge(answer, gold, &math::Options::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(verifier: Verifier, answer: &str, gold: &str, expected: Sameness) {
        assert_eq!(verifier.compare(answer, gold), expected, "{verifier:?} {answer:?} {gold:?}");
    }

    #[test]
    fn numbers_are_found_in_sentences() {
        check(Verifier::Number, "She earns $18 a day.", "18", Sameness::Same);
        check(Verifier::Number, "18.5", "18", Sameness::Different);
        check(Verifier::Number, "1 1/2", "3/2", Sameness::Same);
        check(Verifier::Number, "eighteen", "18", Sameness::CannotTell);
        check(Verifier::Number, "18", "eighteen", Sameness::CannotTell);
    }

    #[test]
    fn numbers_keep_their_form_among_words() {
        for (answer, gold) in [
            ("2 1/2 cups", "2.5"),
            ("25 m^2", "25"),
            ("25 m^{2}", "25"),
            ("about \\frac{3}{4} cups", "0.75"),
            ("x = \\frac{-3}{4} m", "-0.75"),
            ("x = -\\frac{3}{4}", "-0.75"),
            ("1{,}234 eggs", "1234"),
            ("1\\,234 eggs", "1234"),
            ("1,\\!234 eggs", "1234"),
            ("1.5e3 metres", "1500"),
            ("50 000 dollars", "50000"),
            ("costs -\\$18.50 each", "-18.5"),
            ("10 and 2 1/2", "2.5"),
            ("a total of 4 in room B12", "4"),
        ] {
            check(Verifier::Number, answer, gold, Sameness::Same);
        }
        check(Verifier::Number, "2 1/2 cups", "1/2", Sameness::Different);
        check(Verifier::Number, "25 m^2", "2", Sameness::Different);
    }

    #[test]
    fn a_space_between_digits_means_something() {
        for (answer, gold) in [("1 1/2", "11/2"), ("1 2", "12"), ("x + 1 2", "x + 12")] {
            assert_ne!(Verifier::Math.compare(answer, gold), Sameness::Same, "{answer:?} {gold:?}");
        }
        check(Verifier::Math, "1 000", "1000", Sameness::Same);
        check(Verifier::Math, "x = 1 000", "x=1000", Sameness::Same);
        check(Verifier::Math, "x ^ 2 + 3", "x^2+3", Sameness::Same);
    }

    #[test]
    fn mathematics_is_compared_as_numbers_then_as_text() {
        check(Verifier::Math, "$\\dfrac{1}{2}$", "\\frac{1}{2}", Sameness::Same);
        check(Verifier::Math, "0.5", "\\frac{1}{2}", Sameness::Same);
        check(Verifier::Math, "\\boxed{7}", "7", Sameness::Same);
        check(Verifier::Math, "(1,2)", "(1, 2)", Sameness::Same);
        check(Verifier::Math, "1,2", "12", Sameness::Different);
        check(Verifier::Math, "x+1", "x+2", Sameness::Different);
    }

    #[test]
    fn a_gold_answer_must_be_of_its_kind() {
        assert!(Verifier::Number.understands("1,450") && !Verifier::Number.understands("many"));
        assert!(Verifier::Choice.understands("C") && !Verifier::Choice.understands("7"));
        assert!(!Verifier::Exact.understands("  "));
        assert!(!Verifier::Math.understands(&"x".repeat(MAX_ANSWER + 1)));
    }

    proptest! {
        #[test]
        fn no_pair_of_texts_breaks_a_comparison(
            answer in any::<String>(),
            gold in any::<String>(),
        ) {
            for verifier in [Verifier::Exact, Verifier::Number, Verifier::Choice, Verifier::Math] {
                let _ = verifier.compare(&answer, &gold);
                prop_assert!(verifier.compare(&answer, &answer) != Sameness::Different);
            }
        }
    }
}
