//! Answers that look like one another or stand in words: what must not be taken for the same, and
//! what is the same however it is written.

use bstar_verify::Sameness;
use bstar_verify::math::{Options, grade, judge};

fn judged(pairs: &[(&str, &str)], is_expected: impl Fn(Sameness) -> bool) {
    for &(left, right) in pairs {
        for (answer, gold) in [(left, right), (right, left)] {
            let judged = judge(answer, gold, &Options::default());
            assert!(is_expected(judged.sameness), "{answer:?} against {gold:?}: {judged:?}");
            let graded = grade(answer, gold, &Options::default());
            let sameness = graded.judgement.sameness;
            assert!(is_expected(sameness), "{answer:?} against {gold:?}: {graded:?}");
        }
    }
}

fn same(pairs: &[(&str, &str)]) {
    judged(pairs, |found| found == Sameness::Same);
}

fn not_the_same(pairs: &[(&str, &str)]) {
    judged(pairs, |found| found != Sameness::Same);
}

#[test]
fn words_that_change_an_answer_count() {
    not_the_same(&[
        ("at least 5", "at most 5"),
        ("at least 5", "5"),
        ("more than 5", "5"),
        ("between 4 and 5", "4 and 5"),
        ("A and B", "A or B"),
        ("yes and no", "yes or no"),
        ("Alice and Bob", "Alice or Bob"),
        ("x > 2 and x < 5", "x > 2 or x < 5"),
        (r"x > 2 \text{ and } x < 5", r"x > 2 \text{ or } x < 5"),
        ("x > 2 or x < 5", "(2,5)"),
    ]);
    same(&[
        ("3 and 5", "3 or 5"),
        ("three and five", "five or three"),
        ("both 3 and 5", "5, 3"),
        ("either 3 or 5", "3 or 5"),
        ("x < 2 and x > 5", "x < 2 or x > 5"),
        ("x > 2 or x < 5", r"\mathbb{R}"),
    ]);
}

#[test]
fn inches_are_a_unit() {
    not_the_same(&[
        ("5 ft", "5 in"),
        ("5 in", "5 cm"),
        (r"5\text{ in.}", r"5\text{ ft.}"),
        ("5 in^2", "5 in^3"),
        ("6 ft 2 in", "2"),
        ("The answer is 6 ft 2 in.", "2"),
    ]);
    same(&[
        ("5 in", "5 inches"),
        (r"5 \text{ in}^2", r"5 \text{ square inches}"),
        ("5 in total", "5"),
        ("5 in", "5"),
    ]);
}

#[test]
fn names_keep_their_values() {
    not_the_same(&[
        ("x=1,y=2", "2,1"),
        ("x=1 and y=2", "2,1"),
        ("y=2, x=1", "2,1"),
        ("x=1,y=2", "(2,1)"),
        ("a=1,b=2,c=3", "3,2,1"),
        ("f^{-1}(x)", "1/f(x)"),
        ("g^{-1}(x)", r"\frac{x}{g}"),
        ("f(x) = 2x", "f^{-1}(x) = 2x"),
    ]);
    same(&[
        ("x=1,y=2", "1,2"),
        ("y=2, x=1", "(1,2)"),
        ("y=2, x=1", "x=1, y=2"),
        ("x=1, x=2", "2,1"),
        ("x_1=1, x_2=2", "2,1"),
        ("p=3, a=2", "3,2"),
        ("f^{-1}(x) = 2x", "2x"),
        ("x^{-1}(x+1)", r"\frac{x+1}{x}"),
    ]);
}

#[test]
fn dates_and_telephone_numbers_are_no_subtractions() {
    not_the_same(&[
        ("555-1234", "-679"),
        ("555-1234", "555-1235"),
        ("2020-01-02", "2017"),
        ("2020-01-02", "2020-01-03"),
        ("1-800-555-1234", "-2588"),
        ("01/02/2020", "1/4040"),
        ("123-45-6789", "-6711"),
    ]);
    same(&[
        ("10-5", "5"),
        ("2020-1", "2019"),
        ("100-20-30", "50"),
        ("01/02/2020", "2020-01-02"),
        ("(555) 123-4567", "555-123-4567"),
    ]);
}

#[test]
fn values_that_agree_in_many_digits_are_told_apart() {
    not_the_same(&[
        (r"e^{\pi\sqrt{163}}", "262537412640768744"),
        (r"\ln(640320^3+744)/\sqrt{163}", r"\pi"),
        (r"3\ln(640320)/\sqrt{163}", r"\pi"),
        (r"\frac{355}{113}", r"\pi"),
        (r"e^{\pi}-\pi", "20"),
        (r"\sqrt{10^{40}+1}", "10^{20}"),
        (r"\sin(10^{-8})", "10^{-8}"),
        (r"\cos(10^{-20})", "1"),
        (r"\tanh(30)", "1"),
        (r"\sqrt{2}+10^{-14}", r"\sqrt{2}"),
        (r"\sqrt{x}+10^{-15}", r"\sqrt{x}"),
        (r"\sqrt{10^{24}+1} - 10^{12}", "0"),
    ]);
    same(&[
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"),
        (r"\sqrt[3]{2+\sqrt{5}}+\sqrt[3]{2-\sqrt{5}}", "1"),
        (r"\cos 36^\circ", r"\frac{1+\sqrt5}{4}"),
        (r"\sin 1^\circ", r"\cos 89^\circ"),
        (r"\arctan(1)+\arctan(2)+\arctan(3)", r"\pi"),
        (r"\arcsin(\frac12)", r"\frac{\pi}{6}"),
        (r"\log_2 3 \cdot \log_3 2", "1"),
        (r"\sinh(\ln 2)", r"\frac34"),
        (r"\sqrt[5]{32}", "2"),
        (r"e^{2\ln 3}", "9"),
        ("3.14159265358979", r"\pi"),
    ]);
}

#[test]
fn rows_of_matrices_are_read_in_any_dress() {
    let gold = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}";
    for answer in [
        r"\begin{pmatrix}1&2\\[4pt]3&4\end{pmatrix}",
        r"\begin{bmatrix}1&2\\ [0.5em] 3&4\end{bmatrix}",
        r"\begin{pmatrix}1&2\\*3&4\end{pmatrix}",
        r"\begin{pmatrix}1&2\cr 3&4\end{pmatrix}",
        "[[1,2],[3,4]]",
        "((1,2),(3,4))",
    ] {
        same(&[(answer, gold)]);
    }
    same(&[("[[1],[2]]", r"\begin{pmatrix}1\\2\end{pmatrix}")]);
    same(&[("[1,2,3]", r"\begin{bmatrix}1\\2\\3\end{bmatrix}")]);
    not_the_same(&[
        ("[[1,3],[2,4]]", gold),
        ("[[1,2],[3,5]]", gold),
        ("[[1,2]]", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ]);
}

#[test]
fn regions_are_the_same_however_they_are_cut() {
    same(&[
        (r"[0,1]\cup[1,2]", "[0,2]"),
        (r"[0,1)\cup[1,2]", "[0,2]"),
        (r"(0,2)\cup(1,3)", "(0,3)"),
        (r"[0,1]\cup[2,3]\cup[1,2]", "[0,3]"),
        (r"(0,1)\cup\{1\}", "(0,1]"),
        (r"(-\infty,0)\cup\{0\}\cup(0,\infty)", r"\mathbb{R}"),
        (r"(1,2)\cup(3,4)", r"(1,2) \text{ or } (3,4)"),
        (r"x \neq 1, x \neq 2", r"(-\infty,1)\cup(1,2)\cup(2,\infty)"),
        (r"-1<x<1, x \neq 0", r"(-1,0)\cup(0,1)"),
        (r"(0,\sqrt2]\cup(\sqrt2,2)", "(0,2)"),
    ]);
    not_the_same(&[
        (r"[0,1)\cup(1,2]", "[0,2]"),
        (r"[0,1]\cup[1,2]", "[0,3]"),
        (r"(0,1)\cup\{2\}", r"(0,1)\cup\{3\}"),
        (r"(1,2),(3,4)", r"(1,2)\cup(3,5)"),
        (r"x \neq 1, x \neq 2", r"(-\infty,1)\cup(1,\infty)"),
    ]);
}

#[test]
fn nothing_counts_twice_in_a_set() {
    same(&[
        (r"\{1,2,2\}", r"\{1,2\}"),
        (r"\{1\}\cup\{2\}", r"\{1,2\}"),
        (r"\{1,2\}\cup\{2,3\}", r"\{1,2,3\}"),
        (r"\{\frac12, 0.5\}", r"\{0.5\}"),
        (r"\{1,2,2\}", "1,2"),
    ]);
    not_the_same(&[
        ("1,2,2", "1,2"),
        ("(1,2,2)", "(1,2)"),
        (r"\{1,1,2\}", r"\{1,2,3\}"),
        (r"\{1,1,2\}", r"\{1,2,2,3\}"),
    ]);
}

#[test]
fn bases_remainders_and_temperatures() {
    same(&[
        ("1010", "1010_2"),
        ("4343", "4343_6"),
        (r"7 \bmod 3", "1"),
        (r"10^{100} \bmod 7", "4"),
        (r"-1 \bmod 5", "4"),
        (r"2 \pmod 5", "2"),
        (r"32^\circ F", "32"),
        (r"32^\circ\text{F}", r"32 \text{ degrees Fahrenheit}"),
        (r"32^\circ C", r"32^\circ\mathrm{C}"),
        ("32 °F", "32"),
        (r"-40^\circ F", "-40"),
        ("10 per cent", r"10\%"),
        ("10 per cent", "0.1"),
        ("undefined", "DNE"),
        (r"\text{undefined}", "does not exist"),
        ("The limit does not exist.", "DNE"),
    ]);
    not_the_same(&[
        ("10", "1010_2"),
        ("1010_3", "1010_2"),
        (r"7 \bmod 3", "2"),
        (r"7 \bmod 3", "7"),
        (r"32^\circ F", r"32^\circ C"),
        (r"32^\circ F", r"33^\circ F"),
        ("10 per cent", "10 cents"),
        ("undefined", "no solution"),
        ("undefined", r"\infty"),
    ]);
}

#[test]
fn what_a_response_takes_back_is_not_its_answer() {
    for response in [
        "The answer is not 5.",
        "The answer is either 4 or 5.",
        "The final answer is not 5.",
        "I think the answer isn't 5",
        "The answer is not $5$.",
        "The answer is either $4$ or $5$",
        "The answer is between 4 and 5.",
        "The answer is at least 5.",
        "The answer is never 5.",
        "Answer: not 5",
        "#### not 5",
        r"\boxed{\text{either 4 or 5}}",
        "The solutions are $3$ and $5$.",
        "$3$ and $5$",
    ] {
        let found = grade(response, "5", &Options::default());
        assert_ne!(found.judgement.sameness, Sameness::Same, "{response:?} {found:?}");
    }
}

#[test]
fn several_answers_are_found_in_prose() {
    for response in [
        "$3$ and $5$",
        "$3$, $5$",
        r"\(3\) and \(5\)",
        "$x=3$ and $x=5$",
        "$x = 3$ or $x = 5$",
        "The solutions are 3 and 5.",
        "The solutions are $3$ and $5$.",
        "We solve it.\nSo the solutions are $5$ and $3$.",
        r"The roots are \(3\) and \(5\).",
        "Therefore the solutions are $x=3$ and $x=5$.",
        "The answer is either 3 or 5.",
    ] {
        let found = grade(response, "3, 5", &Options::default());
        assert_eq!(found.judgement.sameness, Sameness::Same, "{response:?} {found:?}");
    }
    for (response, gold) in [
        ("We get $a=3$ and so the area is $5$.", "5"),
        ("We find that $x \\neq 3$.", "x \\neq 3"),
        ("The answer is 5, not 6.", "5"),
        ("The solutions are 3 and 5. Their sum is 8.", "8"),
        ("The solutions are $3$ and $5$.\nSo the sum is $8$.", "8"),
        ("The answer is therefore $x = 4$ or $x = -1$.", "-1, 4"),
        ("Option A", "A"),
        ("the correct choice is (C)", "C"),
    ] {
        let found = grade(response, gold, &Options::default());
        assert_eq!(found.judgement.sameness, Sameness::Same, "{response:?} {found:?}");
    }
}
