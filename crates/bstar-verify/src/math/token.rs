//! Text to tokens: LaTeX commands, plain words and symbols, with what only changes looks left out.

use super::repeating::Repetition;

/// Characters of an answer that are read; a longer one is not understood.
pub(super) const MAX_CHARS: usize = 4096;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Digits, and how many stand behind the point.
    Number(String, usize),
    /// The same, and the block of digits that repeats behind them without end.
    Repeating(String, usize, String),
    Letter(char),
    /// A command without its backslash, or a plain word that means one.
    Command(String),
    /// A word in running text, or what `\text{…}` holds.
    Text(String),
    Symbol(char),
    /// A currency sign.
    Currency(char),
    Begin(String),
    End(String),
    RowBreak,
}

/// Cuts text into tokens; none where the text is too long or a group of text is not closed.
pub(super) fn tokenize(text: &str) -> Option<Vec<Token>> {
    if text.len() > MAX_CHARS {
        return None;
    }
    let chars: Vec<char> = plain(&super::marks::without_row_gaps(text)).chars().collect();
    let mut reader = Reader { chars, at: 0, brackets: 0, environments: 0, tokens: Vec::new() };
    while reader.at < reader.chars.len() {
        reader.step()?;
    }
    Some(reader.tokens)
}

/// Characters with a LaTeX or ASCII equivalent, so that only one way of writing is left.
fn plain(text: &str) -> String {
    let dollars = text.replace("\\$", "").matches('$').count();
    let mut out = String::with_capacity(text.len());
    let mut last = ' ';
    for c in text.chars() {
        match c {
            '$' if last != '\\' && dollars.is_multiple_of(2) => out.push(' '),
            '−' | '–' => out.push('-'),
            '×' | '·' | '⋅' => out.push('*'),
            '÷' => out.push('/'),
            '≤' => out.push_str("<="),
            '≥' => out.push_str(">="),
            '≠' => out.push_str("!="),
            '≈' => out.push_str("\\approx "),
            '∈' => out.push_str("\\in "),
            '∪' => out.push_str("\\cup "),
            '∞' => out.push_str("\\infty "),
            'π' => out.push_str("\\pi "),
            'θ' => out.push_str("\\theta "),
            '±' => out.push_str("\\pm "),
            '√' => out.push_str("\\sqrt "),
            '°' => out.push_str("^\\circ "),
            '²' => out.push_str("^2"),
            '³' => out.push_str("^3"),
            '½' => out.push_str(" 1/2"),
            '¼' => out.push_str(" 1/4"),
            '¾' => out.push_str(" 3/4"),
            '⅓' => out.push_str(" 1/3"),
            '⅔' => out.push_str(" 2/3"),
            '¢' => out.push_str(" cents "),
            '∅' => out.push_str("\\emptyset "),
            'ℝ' => out.push_str("\\mathbb{R} "),
            '…' => out.push_str("..."),
            '⟨' => out.push_str("\\langle "),
            '⟩' => out.push_str("\\rangle "),
            '⌊' => out.push_str("\\lfloor "),
            '⌋' => out.push_str("\\rfloor "),
            '≡' => out.push_str("\\equiv "),
            '”' | '″' => out.push('"'),
            '’' | '′' => out.push('\''),
            '\u{c}' => out.push_str("\\f"),
            '，' => out.push(','),
            '\u{a0}' | '\u{202f}' | '\u{2009}' | '~' => out.push(' '),
            other => out.push(other),
        }
        last = c;
    }
    out
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    brackets: usize,
    environments: usize,
    tokens: Vec<Token>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn starts_with(&self, from: usize, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(from + ahead) == c)
    }

    fn step(&mut self) -> Option<()> {
        let c = self.peek(0);
        match c {
            c if c.is_whitespace() => self.at += 1,
            '\\' => self.command()?,
            '0'..='9' => self.number(),
            '.' if self.peek(1).is_ascii_digit() => self.number(),
            'a'..='z' | 'A'..='Z' => self.word(),
            c if c.is_alphabetic() => self.foreign_word(),
            '$' | '€' | '£' | '¥' => self.push(Token::Currency(c), 1),
            '*' if self.peek(1) == '*' => self.push(Token::Symbol('^'), 2),
            '"' if self.is_after_number() => self.push(Token::Text("inch".into()), 1),
            '\'' if self.is_after_number() => self.push(Token::Text("foot".into()), 1),
            '<' if self.peek(1) == '=' => self.push(Token::Command("le".into()), 2),
            '>' if self.peek(1) == '=' => self.push(Token::Command("ge".into()), 2),
            '!' if self.peek(1) == '=' => self.push(Token::Command("ne".into()), 2),
            _ => self.symbol(c),
        }
        Some(())
    }

    fn is_after_number(&self) -> bool {
        matches!(self.tokens.last(), Some(Token::Number(..)))
    }

    fn push(&mut self, token: Token, width: usize) {
        self.tokens.push(token);
        self.at += width;
    }

    fn symbol(&mut self, c: char) {
        match c {
            '(' | '[' => self.brackets += 1,
            ')' | ']' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.push(Token::Symbol(c), 1);
    }

    /// Digits with thousands separators, a fraction, and what repeats behind it.
    fn number(&mut self) {
        let (mut digits, mut places) = (String::new(), 0);
        self.digits(&mut digits);
        if (1..=3).contains(&digits.len()) {
            while let Some(width) = self.separator() {
                self.at += width;
                self.digits(&mut digits);
            }
        }
        let mut has_point = true;
        if let Some(width) = self.decimal_mark() {
            self.at += width;
            let whole = digits.len();
            self.digits(&mut digits);
            places = digits.len() - whole;
        } else if self.peek(0) == '.' && !digits.is_empty() {
            self.at += 1;
        } else {
            has_point = false;
        }
        if has_point && let Some(found) = self.repetition(&digits, places) {
            return self.repeating(digits, places, found);
        }
        self.tokens.push(Token::Number(digits, places));
        if places == 0 && self.is_ordinal() {
            return self.push(Token::Text("ordinal".into()), 2);
        }
        self.power_of_ten(places > 0);
    }

    /// The width of a decimal point, or of a decimal comma as LaTeX writes it, with a digit behind.
    fn decimal_mark(&self) -> Option<usize> {
        let width = if self.peek(0) == '.' {
            1
        } else if self.starts_with(0, "{,}") {
            3
        } else {
            return None;
        };
        self.peek(width).is_ascii_digit().then_some(width)
    }

    /// Whether `st`, `nd`, `rd` or `th` follows.
    fn is_ordinal(&self) -> bool {
        ["st", "nd", "rd", "th"].iter().any(|ending| self.starts_with(0, ending))
            && !self.peek(2).is_alphanumeric()
    }

    fn repetition(&self, digits: &str, places: usize) -> Option<Repetition> {
        super::repeating::repetition(&self.chars[self.at.min(self.chars.len())..], digits, places)
    }

    fn repeating(&mut self, digits: String, places: usize, found: Repetition) {
        self.at += found.width;
        self.tokens.push(match found.block {
            Some(block) => Token::Repeating(digits, places, block),
            // Digits that go on in a way that cannot be seen: enough of them tell the value.
            None if places >= 6 => Token::Number(digits, places),
            None => Token::Symbol('?'),
        });
    }

    /// The `e23` of `6.02e23`. With a sign it needs a fraction before it or two digits behind,
    /// because `2e-1` is one less than twice e.
    fn power_of_ten(&mut self, has_places: bool) {
        if !matches!(self.peek(0), 'e' | 'E') {
            return;
        }
        let has_sign = matches!(self.peek(1), '+' | '-');
        let from = 1 + usize::from(has_sign);
        let width = (from..from + 6).take_while(|&ahead| self.peek(ahead).is_ascii_digit()).count();
        let is_clear = !has_sign || has_places || width >= 2;
        if !(1..=4).contains(&width) || !is_clear || self.peek(from + width).is_alphabetic() {
            return;
        }
        let is_negative = self.peek(1) == '-';
        self.at += from;
        let mut exponent = String::new();
        self.digits(&mut exponent);
        self.tokens.extend([Token::Symbol('*'), Token::Number("10".into(), 0), Token::Symbol('^')]);
        if is_negative {
            self.tokens.push(Token::Symbol('-'));
        }
        self.tokens.push(Token::Number(exponent, 0));
    }

    fn digits(&mut self, out: &mut String) {
        while self.peek(0).is_ascii_digit() {
            out.push(self.peek(0));
            self.at += 1;
        }
    }

    /// The width of a thousands separator here: three digits follow it and no fourth. A bare comma
    /// or space between brackets separates items instead.
    fn separator(&self) -> Option<usize> {
        let is_open = self.brackets == 0 && self.environments == 0;
        let (mark, _) =
            [(",\\!", true), ("{,}", true), ("\\,", true), (",", is_open), (" ", is_open)]
                .into_iter()
                .find(|&(mark, is_allowed)| is_allowed && self.starts_with(0, mark))?;
        let width = mark.len();
        let has_three = (width..width + 3).all(|ahead| self.peek(ahead).is_ascii_digit());
        (has_three && !self.peek(width + 3).is_ascii_digit()).then_some(width)
    }

    fn letters(&self, from: usize) -> String {
        self.chars[(self.at + from).min(self.chars.len())..]
            .iter()
            .take_while(|c| c.is_ascii_alphabetic())
            .collect()
    }

    /// Plain letters: a known word, a unit, running text, or names side by side.
    fn word(&mut self) {
        let word = self.letters(0);
        let width = word.len();
        let lower = word.to_ascii_lowercase();
        if width == 1 && matches!(lower.as_str(), "a" | "p") && self.starts_with(1, ".m.") {
            return self.push(Token::Text(lower + "m"), 4);
        }
        let meaning = match lower.as_str() {
            "sqrt" | "sin" | "cos" | "tan" | "cot" | "sec" | "csc" | "ln" | "log" | "exp"
            | "arcsin" | "arccos" | "arctan" | "asin" | "acos" | "atan" | "abs" | "pi" | "frac"
            | "boxed" | "beginboxed" | "choose" => lower,
            "infinity" | "inf" | "oo" => "infty".into(),
            "union" => "cup".into(),
            "mod" => "pmod".into(),
            _ => return self.names(&word, width),
        };
        self.push(Token::Command(meaning), width);
    }

    fn names(&mut self, word: &str, width: usize) {
        let after_value = matches!(
            self.tokens.last(),
            Some(
                Token::Number(..)
                    | Token::Repeating(..)
                    | Token::Text(_)
                    | Token::Symbol('}' | ')')
            )
        );
        let after_unit = matches!(self.tokens.as_slice(), [.., Token::Text(_), Token::Symbol('/')]);
        let after_value = after_value || after_unit;
        if word == "x" && self.is_times() {
            return self.push(Token::Symbol('*'), width);
        }
        if width <= 2 && self.is_based(width) {
            let held: String = self.alphanumeric(0).collect();
            let width = held.len();
            return self.push(Token::Text(held), width);
        }
        let is_text = width >= 4
            || is_short_word(word)
            || (width == 3 && word.bytes().any(|c| c.is_ascii_uppercase()))
            || (after_value && super::units::is_short_unit(word));
        // Broken extraction looks like this: `12Ihopeitiscorrect`.
        let is_glued = self.at > 0 && self.chars[self.at - 1].is_ascii_digit();
        if is_text && width >= 4 && is_glued {
            return self.push(Token::Symbol('?'), width);
        }
        if is_text {
            let whole = self.hyphenated(width);
            let word = self.chars[self.at..self.at + whole].iter().collect();
            return self.push(Token::Text(word), whole);
        }
        self.tokens.extend(word.chars().map(Token::Letter));
        self.at += width;
    }

    /// Whether the letter here stands for a times sign, as in `3.2 x 10^5`.
    fn is_times(&self) -> bool {
        let spaces = (1..4).take_while(|&ahead| self.peek(ahead) == ' ').count();
        self.is_after_number() && self.starts_with(1 + spaces, "10^")
    }

    fn alphanumeric(&self, from: usize) -> impl Iterator<Item = char> + '_ {
        let rest = &self.chars[(self.at + from).min(self.chars.len())..];
        rest.iter().copied().take_while(char::is_ascii_alphanumeric)
    }

    /// Whether letters and digits with a base in the index begin here, as in `A3_{16}`.
    fn is_based(&self, width: usize) -> bool {
        let behind = self.alphanumeric(width).count();
        let has_digit = self.peek(width).is_ascii_digit();
        let base = width + behind + 1;
        let base = base + usize::from(self.peek(base) == '{');
        has_digit && self.peek(width + behind) == '_' && self.peek(base).is_ascii_digit()
    }

    /// The width of a word with what hyphens join to it: `twenty-five`.
    fn hyphenated(&self, width: usize) -> usize {
        let mut whole = width;
        while self.peek(whole) == '-' {
            let next = self.letters(whole + 1).len();
            if next < 3 {
                break;
            }
            whole += 1 + next;
        }
        whole
    }

    fn foreign_word(&mut self) {
        let word: String = self.chars[self.at..].iter().take_while(|c| c.is_alphabetic()).collect();
        let width = word.chars().count();
        self.push(Token::Text(word), width);
    }

    fn command(&mut self) -> Option<()> {
        let next = self.peek(1);
        if next == '\\' && self.environments > 0 && self.peek(2) == '*' {
            self.push(Token::RowBreak, 3);
            return Some(());
        }
        if next == '\\' {
            let is_escaped_command = self.peek(2).is_ascii_alphabetic() && self.environments == 0;
            if is_escaped_command {
                self.at += 1;
            } else {
                self.push(Token::RowBreak, 2);
            }
            return Some(());
        }
        if !next.is_ascii_alphabetic() {
            match next {
                '{' | '}' => self.brace(next),
                '$' => self.push(Token::Currency('$'), 2),
                '%' => self.push(Token::Symbol('%'), 2),
                '|' => self.push(Token::Symbol('|'), 2),
                '_' | '#' | '&' => return None,
                _ => self.at += 2,
            }
            return Some(());
        }
        let name = self.letters(1);
        self.at += 1 + name.len();
        self.named_command(&name)
    }

    fn brace(&mut self, brace: char) {
        if brace == '{' {
            self.brackets += 1;
            self.push(Token::Symbol('⦃'), 2);
        } else {
            self.brackets = self.brackets.saturating_sub(1);
            self.push(Token::Symbol('⦄'), 2);
        }
    }

    fn named_command(&mut self, name: &str) -> Option<()> {
        match name {
            "mathrm" | "operatorname" | "mathsf" => {
                let at = self.at;
                match self.braced() {
                    Some(held) if super::units::is_unit(&held) && !self.tokens.is_empty() => {
                        self.tokens.push(Token::Text(held));
                    }
                    _ => self.at = at,
                }
            }
            "text" | "mbox" | "textbf" | "textrm" | "textit" | "textnormal" | "hbox" | "textsf"
            | "texttt" => {
                let held = self.braced()?;
                if !held.trim().is_empty() {
                    self.tokens.push(Token::Text(held.trim().into()));
                }
            }
            "phantom" if self.peek(0) != '{' => {}
            "phantom" | "hspace" | "vspace" | "label" => {
                self.braced()?;
            }
            "mathbb" => {
                let is_reals = self.braced()? == "R";
                self.tokens.push(Token::Text(if is_reals { "all reals" } else { "?" }.into()));
            }
            "begin" => {
                let name = self.braced()?;
                self.environments += 1;
                if name.starts_with("array") && self.peek(0) == '{' {
                    self.braced()?;
                }
                self.tokens.push(Token::Begin(name));
            }
            "end" => {
                let name = self.braced()?;
                self.environments = self.environments.saturating_sub(1);
                self.tokens.push(Token::End(name));
            }
            "cr" if self.environments > 0 => self.tokens.push(Token::RowBreak),
            name if LOOKS.contains(&name) => {}
            _ => self.other_command(name),
        }
        Some(())
    }

    fn other_command(&mut self, name: &str) {
        let same = match name {
            "dfrac" | "tfrac" | "cfrac" => "frac",
            "leq" | "leqslant" => "le",
            "geq" | "geqslant" => "ge",
            "neq" => "ne",
            "dbinom" | "tbinom" => "binom",
            "bmod" | "mod" => "pmod",
            "langle" | "rangle" => {
                let symbol = if name == "langle" { '(' } else { ')' };
                self.at -= 1;
                return self.symbol(symbol);
            }
            "lbrace" => return self.tokens.push(Token::Symbol('⦃')),
            "rbrace" => return self.tokens.push(Token::Symbol('⦄')),
            "times" | "cdot" | "ast" => return self.tokens.push(Token::Symbol('*')),
            "div" => return self.tokens.push(Token::Symbol('/')),
            "lt" => return self.tokens.push(Token::Symbol('<')),
            "gt" => return self.tokens.push(Token::Symbol('>')),
            "colon" => return self.tokens.push(Token::Symbol(':')),
            "lvert" | "rvert" | "vert" | "mid" => return self.tokens.push(Token::Symbol('|')),
            "prime" => return self.tokens.push(Token::Symbol('\'')),
            glued if glued.starts_with("quad") => {
                return self.tokens.extend(glued[4..].chars().map(Token::Letter));
            }
            other => other,
        };
        self.tokens.push(Token::Command(same.into()));
    }

    /// What a balanced group of braces right here holds.
    fn braced(&mut self) -> Option<String> {
        while self.peek(0) == ' ' {
            self.at += 1;
        }
        if self.peek(0) != '{' {
            return None;
        }
        let mut depth = 0_usize;
        let mut held = String::new();
        while self.at < self.chars.len() {
            let c = self.peek(0);
            self.at += 1;
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Some(held),
                '}' => depth -= 1,
                _ => held.push(c),
            }
        }
        None
    }
}

/// Commands that only change looks.
const LOOKS: [&str; 28] = [
    "left",
    "right",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "bigg",
    "displaystyle",
    "textstyle",
    "limits",
    "quad",
    "qquad",
    "enspace",
    "thinspace",
    "mathbf",
    "mathit",
    "boldsymbol",
    "vec",
    "overrightarrow",
    "hat",
    "bf",
    "rm",
    "it",
    "angle",
    "triangle",
    "hline",
];

/// Words of two or three letters that are no names side by side.
fn is_short_word(word: &str) -> bool {
    matches!(
        word,
        "and"
            | "or"
            | "am"
            | "pm"
            | "AM"
            | "PM"
            | "no"
            | "No"
            | "to"
            | "of"
            | "by"
            | "per"
            | "one"
            | "two"
            | "six"
            | "ten"
            | "the"
            | "yes"
            | "odd"
            | "all"
            | "not"
            | "day"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<String> {
        let tokens = tokenize(text).expect("short enough");
        let number = |token| match token {
            Token::Number(digits, places) => Some(format!("{digits}e-{places}")),
            _ => None,
        };
        tokens.into_iter().filter_map(number).collect()
    }

    #[test]
    fn thousands_are_joined_and_lists_are_not() {
        assert_eq!(numbers("12,345,678"), ["12345678e-0"]);
        assert_eq!(numbers("15,\\!000"), ["15000e-0"]);
        assert_eq!(numbers("1 000.5"), ["10005e-1"]);
        assert_eq!(numbers("1,2345"), ["1e-0", "2345e-0"]);
        assert_eq!(numbers("(1,234)"), ["1e-0", "234e-0"]);
        assert_eq!(numbers("1, 234"), ["1e-0", "234e-0"]);
    }

    #[test]
    fn words_are_text_and_short_runs_are_names() {
        assert_eq!(tokenize("Evelyn"), Some(vec![Token::Text("Evelyn".into())]));
        assert_eq!(tokenize("xy"), Some(vec![Token::Letter('x'), Token::Letter('y')]));
        assert_eq!(tokenize("\\text{open"), None);
        assert_eq!(tokenize(&"1".repeat(MAX_CHARS + 1)), None);
    }
}
