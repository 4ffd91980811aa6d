//! Answers that are made to hang, blow up or confuse a checker; each at most a little over the length
//! that is read.

/// All of them.
pub(crate) fn answers() -> Vec<String> {
    let mut all: Vec<String> = [
        "5^(5^(5^(5^5)))",
        "2^{2^{2^{2^{2^{2}}}}}",
        "9^{9^{9}}!",
        "((((9!)!)!)!)!",
        "99999999999!",
        "\\binom{100000}{50000}",
        "x^{1099511627775}",
        "(x+1)^{99999999999999999999}",
        "10^{-4000}",
        "e^{e^{e^{e^{e}}}}",
        "\\sin(10^{30})",
        "\\log_{1}(1)",
        "1/0",
        "0^0",
        "\\sqrt[1000]{x}",
        "\\u{202e}5\\u{200b}",
        "٣٫١٤",
        "𝟓",
        "\u{202e}12\u{200d}3\u{feff}",
        "e\u{301}\u{301}\u{301}",
    ]
    .map(str::to_owned)
    .to_vec();
    for (piece, times) in REPEATED {
        all.push(piece.repeat(times));
        all.push(piece.repeat(times) + "1");
    }
    for (open, inner, close, times) in NESTED {
        all.push(open.repeat(times) + inner + &close.repeat(times));
    }
    all.push("\\{".to_owned() + &"\\sqrt{2}+\\sin 1,".repeat(60) + "1\\}");
    all.push("\\{".repeat(9) + &"x,".repeat(60) + &"\\}".repeat(9));
    all.push(branching("\\{", "\\}", 4, 5));
    all.push(branching("(", ")", 8, 3));
    all.push(branching("\\{", "\\}", 2, 9));
    all.push("0.".to_owned() + &"3".repeat(4000));
    all.push("0.".to_owned() + &"12".repeat(1000) + "...");
    all.push(format!("0.\\overline{{{}}}", "142857".repeat(600)));
    all.push(format!("\\frac{{{}}}{{{}}}", "7".repeat(2000), "3".repeat(2000)));
    all.push("9".repeat(4000));
    all.push(format!("\\text{{{}}}", "word ".repeat(800)));
    all
}

/// Pieces that are written many times.
const REPEATED: [(&str, usize); 58] = [
    ("{", 4000),
    ("(", 4000),
    ("-", 4000),
    ("|", 4000),
    ("\\frac", 800),
    ("\\sqrt", 800),
    ("x^", 2000),
    ("x_", 2000),
    ("1+", 2000),
    ("1,", 2000),
    ("x,", 60),
    ("\\begin{pmatrix}", 200),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix},", 60),
    ("100000!+", 400),
    ("99999!,", 60),
    ("x+3000!,", 60),
    ("(1+x)^{999999999999}", 100),
    ("(1+x)^{999999999999},", 60),
    ("x^{1099511627775}+", 200),
    ("\\frac{1}{x+1}+", 250),
    ("\\sin", 900),
    ("\\sin(x)+", 400),
    ("\\text{a}", 500),
    ("\\text{abc, abd},", 60),
    ("(x=", 400),
    ("\\sqrt{x+1}+", 90),
    ("\\sqrt{\\sqrt{x}+1},", 60),
    ("(-\\infty,1)\\cup", 250),
    ("(0,1)\\cup(2,3),", 60),
    ("\\{x|99999!x<1\\},", 60),
    ("\\{x|2x<1\\}\\cup", 200),
    ("|x-1|<2,", 60),
    ("x<1 or ", 500),
    ("\\pm 1 ", 400),
    ("\\pm", 1200),
    ("\\pm x+", 400),
    ("\\pm 1,", 60),
    ("5 \\pmod 7,", 60),
    ("twenty-", 500),
    ("two hundred ", 330),
    ("million ", 500),
    ("**", 2000),
    ("\"", 4000),
    ("(A) ", 1000),
    ("A. ", 1300),
    ("1:", 2000),
    ("1/", 2000),
    ("'", 4000),
    ("½", 2000),
    ("\\overline{", 400),
    ("\\arctan(2)+", 300),
    ("\\ln(x+2)\\cdot", 250),
    ("\\arcsin(\\frac{1}{3}),", 60),
    ("e^{\\sqrt{2}}+", 250),
    ("[1,2)\\cup\\{2\\}\\cup", 200),
    ("x\\ne 1,", 60),
    ("not 5 or ", 400),
    ("\\begin{pmatrix}1\\\\[4pt]", 200),
];

/// What opens, stands inside and closes, and how deep.
const NESTED: [(&str, &str, &str, usize); 12] = [
    ("(x=", "1", ")", 9),
    ("\\frac{1}{1+", "x", "}", 300),
    ("\\frac{1}{1+", "x", "}", 12),
    ("\\sqrt{1+", "x", "}", 36),
    ("\\sqrt{1+", "x", "}", 500),
    ("(1+", "x", ")^2", 18),
    ("|1-", "x", "|", 18),
    ("2^{", "x", "}", 30),
    ("\\{x|", "x<1", "\\}", 15),
    ("\\lfloor ", "x", "\\rfloor", 18),
    ("\\begin{pmatrix}", "1", "\\end{pmatrix}", 15),
    ("\\boxed{", "1", "}", 400),
];

/// Lists in lists: `width` items each, this deep.
fn branching(open: &str, close: &str, width: usize, depth: usize) -> String {
    if depth == 0 {
        return "x".to_owned();
    }
    let inner = vec![branching(open, close, width, depth - 1); width].join(",");
    format!("{open}{inner}{close}")
}
