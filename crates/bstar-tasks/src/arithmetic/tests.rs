//! Tests of the generator and of the step check, against an evaluator that shares no code with
//! either.

use super::*;
use proptest::prelude::*;

fn query(prompt: &str, gold: &str) -> Query {
    Query {
        id: "a/test/0".into(),
        prompt: prompt.into(),
        gold_answer: gold.into(),
        gold_solution: None,
    }
}

fn small() -> ArithmeticConfig {
    ArithmeticConfig { supervised: 300, train: 300, validation: 40, test: 60, ..Default::default() }
}

fn generated(config: &ArithmeticConfig, seed: u64) -> Generated {
    generate(config, "arithmetic", RngKey::from_seed(seed)).unwrap()
}

fn prompts(generated: &Generated) -> Vec<String> {
    let queries = [&generated.test, &generated.validation, &generated.train];
    let queries = queries.into_iter().flatten().map(|query| query.prompt.clone());
    queries.chain(generated.supervised.iter().map(|e| e.prompt.to_string())).collect()
}

/// The value of an expression as a sum of signed products, in integers that are reduced at the end
/// only.
fn slow_value(expression: &str, modulus: i64) -> i64 {
    let sums = expression.replace('-', "+-");
    let value: i64 = sums
        .split('+')
        .map(|term| {
            let sign = if term.starts_with('-') { -1 } else { 1 };
            let factors = term.trim_start_matches('-').split('*');
            sign * factors.map(|factor| factor.parse::<i64>().unwrap()).product::<i64>()
        })
        .sum();
    value.rem_euclid(modulus)
}

/// Whether `next` is `state` with one operation reduced, by an independent route: replace the text
/// `aOb` at every place, and keep the result if the value of the expression is the same whatever
/// the operands outside are (tried by brute force over several assignments).
fn slow_successors(state: &str, modulus: i64) -> BTreeSet<String> {
    let expressions: Vec<&str> = state.split(',').collect();
    let mut found = BTreeSet::new();
    for (which, expression) in expressions.iter().enumerate() {
        let symbols: Vec<char> = expression.chars().collect();
        for at in (1..symbols.len()).step_by(2) {
            let is_sound = (0..12).all(|round| {
                let varied: String = symbols
                    .iter()
                    .zip(0..)
                    .map(|(c, i)| match c.to_digit(10) {
                        Some(d) => {
                            let shift = (round * (i * 7 + 3) + round * round * i) % 10;
                            char::from_digit((d + shift) % 10, 10).unwrap()
                        }
                        None => *c,
                    })
                    .collect();
                let reduced = substitute(&varied, at, modulus);
                slow_value(&reduced, modulus) == slow_value(&varied, modulus)
            });
            if is_sound {
                let mut next: Vec<String> = expressions.iter().map(ToString::to_string).collect();
                next[which] = substitute(expression, at, modulus);
                found.insert(next.join(","));
            }
        }
    }
    found
}

/// Replaces the single digits around the operator at `at` by their value.
fn substitute(expression: &str, at: usize, modulus: i64) -> String {
    let value = slow_value(&expression[at - 1..=at + 1], modulus);
    format!("{}{value}{}", &expression[..at - 1], &expression[at + 2..])
}

fn slow_check(prompt: &str, response: &str, modulus: i64) -> bool {
    let Some((states, answer)) = response.split_once('#') else { return false };
    let mut state = prompt.trim_end_matches('=').to_owned();
    for next in states.split('=') {
        let once = slow_successors(&state, modulus);
        let twice = once.iter().flat_map(|middle| slow_successors(middle, modulus));
        if !once.contains(next) && !twice.collect::<BTreeSet<_>>().contains(next) {
            return false;
        }
        next.clone_into(&mut state);
    }
    state == answer && !state.contains(['+', '-', '*'])
}

#[test]
fn generated_solutions_pass_the_step_check_and_reach_the_gold_answer() {
    let wide = ArithmeticConfig {
        modulus: 97,
        smallest_operand: 0,
        largest_operand: 96,
        expressions: 3,
        order: Order::LeftToRight,
        double_step_share: 0.5,
        ..small()
    };
    for config in [small(), wide] {
        let made = generated(&config, 1);
        for query in made.test.iter().chain(&made.validation).chain(&made.train) {
            let solution = query.gold_solution.as_deref().unwrap();
            assert!(check_steps(&config, query, solution), "{} {solution}", query.prompt);
            assert_eq!(grade(query, solution).verdict, Verdict::Correct, "{solution}");
            let values: Vec<String> = query
                .prompt
                .trim_end_matches('=')
                .split(',')
                .map(|e| slow_value(e, i64::from(config.modulus)).to_string())
                .collect();
            assert_eq!(query.gold_answer, values.join(","), "{}", query.prompt);
        }
        for example in &made.supervised {
            let query = query(&example.prompt, "");
            assert!(check_steps(&config, &query, &example.response), "{example:?}");
        }
    }
}

#[test]
fn no_query_is_drawn_twice() {
    let prompts = prompts(&generated(&small(), 1));
    assert_eq!(prompts.len(), 700);
    assert_eq!(prompts.iter().collect::<BTreeSet<_>>().len(), prompts.len());
}

#[test]
fn a_key_fixes_the_task_and_another_key_changes_it() {
    let first = generated(&small(), 1);
    let again = generated(&small(), 1);
    assert_eq!(prompts(&first), prompts(&again));
    assert_eq!(first.supervised, again.supervised);
    assert_ne!(prompts(&first), prompts(&generated(&small(), 2)));
}

#[test]
fn held_out_queries_do_not_depend_on_the_sizes_of_other_splits() {
    let first = generated(&small(), 1);
    let larger = generated(&ArithmeticConfig { train: 500, supervised: 900, ..small() }, 1);
    assert_eq!(first.test, larger.test);
    assert_eq!(first.validation, larger.validation);
}

#[test]
fn operation_counts_follow_the_weights() {
    let config = ArithmeticConfig { query_operations: vec![0.0, 0.0, 0.0, 1.0], ..small() };
    for query in generated(&config, 1).train {
        let operations = query.prompt.matches(['+', '-', '*']).count();
        assert_eq!(operations, 4, "{}", query.prompt);
    }
}

#[test]
fn the_default_task_is_generated_whole() {
    let made = generated(&ArithmeticConfig::default(), 1);
    assert_eq!(made.supervised.len(), 5000);
    assert_eq!((made.train.len(), made.validation.len(), made.test.len()), (4000, 200, 420));
}

#[test]
fn the_step_check_knows_right_from_wrong() {
    let query = query("6-6,5*9-1=", "0,4");
    for (response, expected) in [
        ("6-6,5-1=6-6,4=0,4#0,4", true),
        ("0,5*9-1=0,5-1=0,4#0,4", true),
        ("6-6,4=0,4#0,4", true),
        ("0,5-1=0,4#0,4", true),
        ("0,4#0,4", false),
        ("6-6,5-1=6-6,4=0,4#0,5", false),
        ("6-6,5-1=6-6,5=0,4#0,4", false),
        ("6-6,5*8=6-6,0=0,4#0,4", false),
        ("6-6,5-1=6-6,4=0,4", false),
        ("6-6,5-1=6-6,4#0,4", false),
        ("6-6,5-1=6-6,4=0,4=0,4#0,4", false),
        ("6-6,5-1=6-6,4=0,4#0,4#0,4", false),
        ("6-6,5-1=6-6,4=0,4#0,4 ", false),
        ("6-6,5*9-1=6-6,5-1=6-6,4=0,4#0,4", false),
        ("=0,4#0,4", false),
        ("#0,4", false),
        ("", false),
    ] {
        assert_eq!(check_steps(&small(), &query, response), expected, "{response}");
    }
}

#[test]
fn what_follows_a_wrong_step_is_wrong_too() {
    let query = query("6-6,5*9-1=", "0,4");
    for (response, expected) in [
        ("6-6,5-1=6-6,4=0,4#0,4", vec![true, true, true, true]),
        // 5*9 is 5, not 6; the rest follows from 6-6,6-1, and even a lucky end is no better.
        ("6-6,6-1=6-6,5=0,5#0,5", vec![false; 4]),
        ("6-6,5-1=6-6,3=0,4#0,4", vec![true, false, false, false]),
        ("6-6,5-1=0,4#0,5", vec![true, true, false]),
        ("6-6,5-1=6-6,4#6-6,4", vec![true, true, false]),
        ("6-6,5-1", vec![true]),
        ("6-6,5-1==0,4#0,4", vec![true, false, false, false]),
    ] {
        let found = check_each_step(&small(), &query, response);
        assert_eq!(found, expected, "{response}");
        assert_eq!(found.len(), steps(response).len(), "{response}");
    }
}

#[test]
fn answers_are_graded_by_what_follows_the_last_mark() {
    let query = query("6-6,5*9-1=", "0,4");
    for (response, answer, verdict) in [
        ("6-6,4=0,4#0,4", Some("0,4"), Verdict::Correct),
        ("1=2#0,4", Some("0,4"), Verdict::Correct),
        ("#9#0,4", Some("0,4"), Verdict::Correct),
        ("0,4#0,5", Some("0,5"), Verdict::Incorrect),
        ("0,4#4", Some("4"), Verdict::Incorrect),
        ("0,4#00,4", Some("00,4"), Verdict::Incorrect),
        ("0,4#", None, Verdict::NoAnswer),
        ("0,4", None, Verdict::NoAnswer),
        ("", None, Verdict::NoAnswer),
    ] {
        let grade = grade(&query, response);
        assert_eq!(grade.answer.as_deref(), answer, "{response}");
        assert_eq!(grade.verdict, verdict, "{response}");
    }
}

#[test]
fn steps_and_equations_are_the_states() {
    let response = "6-6,5-1=6-6,4=0,4#0,4";
    let found: Vec<&str> = steps(response).into_iter().map(|range| &response[range]).collect();
    assert_eq!(found, ["6-6,5-1=", "6-6,4=", "0,4#", "0,4"]);
    assert_eq!(equations(response), ["6-6,5-1", "6-6,4", "0,4"]);
    assert_eq!(equations("1+1"), ["1+1"]);
    assert!(equations("").is_empty() && steps("").is_empty());
    assert_eq!(equations("#3"), Vec::<String>::new());
}

proptest! {
    #[test]
    fn a_changed_symbol_fails_unless_the_response_is_still_valid(
        seed in 0..10_000_u64,
        place in any::<prop::sample::Index>(),
        symbol in prop::sample::select("0123456789+-*,=#".chars().collect::<Vec<_>>()),
    ) {
        let config = ArithmeticConfig {
            supervised: 0, train: 1, validation: 0, test: 0,
            double_step_share: 0.3,
            ..Default::default()
        };
        let query = generated(&config, seed).train.remove(0);
        let solution = query.gold_solution.clone().unwrap();
        prop_assert!(slow_check(&query.prompt, &solution, 10), "{} {}", query.prompt, solution);
        let mut changed: Vec<char> = solution.chars().collect();
        let place = place.index(changed.len());
        changed[place] = symbol;
        let changed: String = changed.into_iter().collect();
        // The slow check reads single digits between operators only.
        let is_readable = changed.split(['=', '#', ',']).all(|expression| {
            let symbols: Vec<char> = expression.chars().collect();
            symbols.len() % 2 == 1
                && symbols.iter().enumerate().all(|(i, c)| c.is_ascii_digit() == (i % 2 == 0))
        });
        let expected = is_readable && slow_check(&query.prompt, &changed, 10);
        let found = check_steps(&config, &query, &changed);
        prop_assert_eq!(found, expected, "{} {}", query.prompt, changed);
    }

    #[test]
    fn no_response_breaks_the_check(response in any::<String>(), like in "[-+*0-9,=#]{0,40}") {
        let query = query("6-6,5*9-1=", "0,4");
        for text in [&response, &like] {
            let passes = check_steps(&small(), &query, text);
            let is_correct = grade(&query, text).verdict.is_correct();
            prop_assert!(is_correct || !passes);
            let joined: usize = steps(text).iter().map(ExactSizeIterator::len).sum();
            prop_assert!(joined == text.len() || text.trim().is_empty());
        }
    }
}
