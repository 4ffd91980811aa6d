//! Pairs of answers with their verdicts, and hostile ones.

use super::*;
use proptest::prelude::*;

fn check(answer: &str, gold: &str, expected: Sameness) {
    let judged = judge(answer, gold, &Options::default());
    assert_eq!(judged.sameness, expected, "{answer:?} against {gold:?}: {}", judged.reason.name());
    let judged = judge(gold, answer, &Options::default());
    assert_eq!(judged.sameness, expected, "{gold:?} against {answer:?}: {}", judged.reason.name());
}

#[test]
fn equal_answers_of_other_form_are_the_same() {
    for (answer, gold) in [
        ("\\sqrt{12}", "2\\sqrt{3}"),
        ("\\frac{1}{\\sqrt 2}", "\\frac{\\sqrt{2}}{2}"),
        ("x(x+2)+1", "(x+1)^2"),
        ("\\frac{2}{x} + 1", "\\frac{x+2}{x}"),
        ("1\\frac{1}{2}", "3/2"),
        ("2^{10}", "1024"),
        ("1/2004!", "\\frac{1}{2004!}"),
        ("2 \\cos 60^\\circ", "1"),
        ("\\frac{\\pi}{6}", "30^\\circ"),
        ("(1, 0.5)", "\\left(1, \\frac12\\right)"),
        ("\\{2, 1\\}", "1, 2"),
        ("3 \\pm 2\\sqrt2", "3+2\\sqrt{2}, 3-2\\sqrt{2}"),
        ("x > 5", "(5, \\infty)"),
        ("-2 \\le x < 7", "[-2, 7)"),
        ("[0,1) \\cup (2,3)", "(2,3) \\cup [0,1)"),
        ("y = 2x + 1", "2y - 4x - 2 = 0"),
        ("x \\ge 5", "-x \\le -5"),
        ("x = 3", "3"),
        ("(p, q) = (3, 2)", "(3,2)"),
        (
            "\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}",
            "\\begin{bmatrix} 0.5 \\\\ 3 \\end{bmatrix}",
        ),
        ("15\\text{ cm}^2", "15 \\text{ square centimeters}"),
        ("12 \\text{ feet}", "12"),
        ("\\$1,250", "1250 dollars"),
        ("25\\%", "0.25"),
        ("25\\%", "25"),
        ("\\text{(C)}", "C"),
        ("\\text{Evelyn}", "Evelyn"),
        ("\\text{A, C}", "C, A"),
        ("5 \\text{ and } 7", "7, 5"),
        ("101_2", "101_{2}"),
        ("1.5 \\times 10^3", "1500"),
        ("\\log_2 8", "3"),
        ("\\binom{5}{2}", "10"),
        ("3 : 4", "6 : 8"),
        ("\\mbox{four}", "4"),
        ("\\sqrt[3]{-8}", "-2"),
        ("e^{i\\pi}", "-1"),
        ("x^{2/3}", "\\sqrt[3]{x}^2"),
        ("0.333333", "1/3"),
        ("1,22", "1.22"),
        ("(x-1)(x+1)", "x^2-1"),
        ("\\sin^2 x", "1 - \\cos^2 x"),
        ("2\\sin x\\cos x", "\\sin 2x"),
        ("\\sqrt{x}\\sqrt{y}", "\\sqrt{xy}"),
        ("\\ln(xy)", "\\ln x + \\ln y"),
        ("x<3 \\text{ or } x>5", "(-\\infty,3) \\cup (5,\\infty)"),
        ("6.02e23", "6.02 \\times 10^{23}"),
        ("2e-1", "2e - 1"),
        ("1.5e-3", "0.0015"),
        ("October 30", "\\text{october 30}"),
        ("no solution", "\\text{No solution.}"),
        ("2^{n+1}", "2 \\cdot 2^n"),
        ("x = 1, y = 2", "(1, 2)"),
        ("\\mathbb{R}", "(-\\infty, \\infty)"),
        ("\\text{all real numbers}", "\\mathbb{R}"),
        ("1:2:3", "2:4:6"),
        ("326.5", "183803159792058355/562949953421312"),
        ("8:34 p.m.", "8\\!:\\!34 \\text{ p.m.}"),
    ] {
        check(answer, gold, Sameness::Same);
    }
}

#[test]
fn wrong_answers_that_other_checkers_accept_are_not_accepted() {
    for (answer, gold) in [
        ("1/2004!", "1/2006!"),
        ("1/2^99", "1/2^98"),
        ("\\frac{1}{2^{99}}", "0"),
        ("(0,1)", "(0,1.5)"),
        ("2,3,4", "1,2,3"),
        ("n=2,3,4", "n=1,2,3"),
        ("\\pm 2021", "2021"),
        ("12:00", "1:00"),
        ("(1,2)", "[1,2]"),
        ("(1,2)", "(2,1)"),
        ("0.333", "1/3"),
        ("5.001", "5"),
        ("100000000000", "99999999999"),
        ("3^{2025}", "2^{2025}"),
        ("x \\ge 5", "x \\le 5"),
        ("x \\ge 5", "x > 5"),
        ("a^2+b=0", "0"),
        ("2x+z=1", "1"),
        ("x^2+2x+1", "y^2+2y+1"),
        ("12", "(1,2)"),
        ("12", "1,2345"),
        ("\\sqrt{x^2}", "x"),
        ("5 \\text{ cm}", "5 \\text{ m}"),
        ("1121_3", "1122_3"),
        ("\\text{even}", "\\text{odd}"),
        ("10^{-30}", "0"),
        ("10^{-30}", "2 \\cdot 10^{-30}"),
        ("e^{-1000}", "e^{-1001}"),
        ("10^{20}+1", "10^{20}"),
        ("x=3", "y=3"),
        ("1000.01", "1000"),
        ("5.00001", "5"),
        ("12345678901.5", "12345678901"),
        ("123456.78", "123456.79"),
        ("0.125001", "1/8"),
        ("x = 2, y = 1", "(1, 2)"),
        ("\\$5", "5\\%"),
        ("€5", "\\$5"),
        ("2:00 p.m.", "2:00 a.m."),
        ("10^{1000}", "10^{1000}+1"),
        ("22/7", "\\pi"),
        ("(1,2),(3,4)", "(1,3),(2,4)"),
        ("2,2,3", "2,3,3"),
        ("x < 5", "y < 5"),
        ("2:30", "1:15"),
    ] {
        check(answer, gold, Sameness::Different);
    }
}

#[test]
fn nothing_and_nonsense_cannot_be_told() {
    for (answer, gold) in [
        ("", ""),
        ("", "5"),
        ("?", "?"),
        ("\\frac{1", "\\frac{2"),
        ("}{", "5"),
        ("5^(5^(5^(5^5)))", "5"),
    ] {
        check(answer, gold, Sameness::CannotTell);
    }
    check("\\frac{1", "\\frac{1", Sameness::Same);
    let reason = |answer, gold| judge(answer, gold, &Options::default()).reason;
    assert_eq!(reason("\\frac{1", "5"), Reason::CannotParse);
    assert_eq!(reason("5", "\\frac{1"), Reason::CannotParseGold);
    assert_eq!(reason("5", " "), Reason::Empty);
    assert_eq!(reason("5", "5.0"), Reason::EqualExpressions);
}

#[test]
fn strictness_is_an_option() {
    let strict = |answer, gold| judge(answer, gold, &Options::STRICT).sameness;
    for (answer, gold) in
        [("25", "25\\%"), ("5 \\text{ cm}", "5"), ("0.333333", "1/3"), ("2,1", "1,2")]
    {
        check(answer, gold, Sameness::Same);
        assert_eq!(strict(answer, gold), Sameness::Different, "{answer:?} {gold:?}");
    }
    assert_eq!(strict("0.25", "25\\%"), Sameness::Same);
    assert_eq!(strict("0.5", "1/2"), Sameness::Same);
}

#[test]
fn hostile_answers_are_judged_in_bounded_time() {
    let hostile = [
        "5^(5^(5^(5^5)))".to_owned(),
        "((((9!)!)!)!)!".to_owned(),
        "99999999999!".to_owned(),
        "{".repeat(4000),
        "(".repeat(4000),
        "-".repeat(4000),
        "\\frac".repeat(800),
        "\\sqrt".repeat(800),
        "x^".repeat(2000),
        "1+".repeat(2000),
        "x_".repeat(2000),
        "|".repeat(4000),
        "1,".repeat(2000),
        "\\begin{pmatrix}".repeat(200),
        "100000!+".repeat(400) + "1",
        "(1+x)^{999999999999}".repeat(100),
        "\\sin".repeat(900),
        "\\text{a}".repeat(500),
        "9".repeat(4000),
        "99999!,".repeat(60),
        "x+3000!,".repeat(60),
        "(x=".repeat(400),
        "(x=".repeat(9) + "1" + &")".repeat(9),
        "\\{".repeat(9) + &"x,".repeat(60) + &"\\}".repeat(9),
        "\\sqrt{x+1}+".repeat(90) + "1",
        "0.".to_owned() + &"3".repeat(4000),
    ];
    let mut slowest = (0, String::new());
    for left in &hostile {
        for right in &hostile {
            let start = std::time::Instant::now();
            let _ = judge(left, right, &Options::default());
            // The bar is 50 ms; a busy machine running an unoptimised build gets more.
            assert!(start.elapsed().as_millis() < 1000, "{left:.40} against {right:.40}");
            slowest = slowest.max((start.elapsed().as_micros(), format!("{left:.30} {right:.30}")));
        }
        assert_ne!(judge(left, left, &Options::default()).sameness, Sameness::Different);
    }
    println!("slowest: {slowest:?} in microseconds");
}

/// Work is counted, not timed, so this holds on every machine.
#[test]
fn usual_answers_take_little_work() {
    for (answer, gold, most) in [
        ("42", "42.0", 40),
        ("\\frac{3}{4}", "0.75", 300),
        ("2\\sqrt{3}", "\\sqrt{12}", 300),
        ("(x+1)^2", "x^2+2x+1", 600),
        ("(1, 2, 3)", "(1, 2, 4)", 300),
        ("\\{1, 2, 3\\}", "\\{3, 2, 1\\}", 1000),
        ("|x - 2| < 5", "(-3, 7)", 1500),
        ("\\sin^2 x", "1 - \\cos^2 x", 4000),
        (
            "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
            "\\begin{pmatrix} 1 & 2 \\\\ 3 & 5 \\end{pmatrix}",
            500,
        ),
        ("\\text{even}", "\\text{odd}", 100),
    ] {
        let steps = compare::steps(answer, gold).expect("both are understood");
        assert!(steps <= most, "{answer:?} against {gold:?}: {steps} steps");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_judge(answer in any::<String>(), gold in any::<String>()) {
        let _ = judge(&answer, &gold, &Options::default());
        prop_assert_ne!(judge(&answer, &answer, &Options::default()).sameness, Sameness::Different);
    }

    #[test]
    fn no_soup_of_tokens_breaks_the_judge(
        answer in r"(\\frac|\\sqrt|\{|\}|\^|_|\(|\)|\[|\]|,|\\pm|!|=|<|\+|-|/|x|\\pi|\\sin|[0-9]|\.|%|\\text\{a\}| ){0,24}",
        gold in r"(\\frac|\\sqrt|\{|\}|\^|_|\(|\)|,|!|=|\+|-|/|x|e|i|[0-9]|%| ){0,24}",
    ) {
        let _ = judge(&answer, &gold, &Options::default());
        let spaced = format!(" {answer} ");
        prop_assert_ne!(judge(&spaced, &answer, &Options::default()).sameness, Sameness::Different);
    }
}
