//! Tokens to a tree: lists, relations, unions, sums, products, powers, each binding tighter.
//!
//! What is not understood as a whole is not understood at all. Nodes and depth are capped, so text
//! of any shape is read in bounded time and stack.

use super::budget::Budget;
use super::expr::{Expr, Function, Join, Literal, Relation};
use super::label::INVERSE;
use super::primary::{constant, is_greek};
use super::token::{Token, tokenize};

/// Nodes of a tree.
const MAX_NODES: usize = 1500;

/// Brackets, groups and exponents inside one another.
const MAX_DEPTH: usize = 40;

/// Reads an answer; none where it is empty or not understood.
pub(super) fn parse(text: &str) -> Option<Expr> {
    let tokens = tokenize(text)?;
    let mut parser = Parser { tokens, at: 0, nodes: 0, depth: 0, budget: Budget::of_reading() };
    parser.skip_looks();
    parser.skip_announcement();
    while matches!(parser.tokens.last(), Some(Token::Symbol('.' | ',' | ';') | Token::RowBreak)) {
        parser.tokens.pop();
    }
    let expr = parser.list()?;
    (parser.at == parser.tokens.len()).then_some(expr)
}

/// A reader of tokens; [`super::primary`] holds the part that reads values.
pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    nodes: usize,
    depth: usize,
    /// For the conditions of sets, which are solved while they are read.
    pub(super) budget: Budget,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn is_symbol(&self, symbol: char) -> bool {
        self.peek() == Some(&Token::Symbol(symbol))
    }

    pub(super) fn is_command(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Command(found)) if found == name)
    }

    pub(super) fn takes(&mut self, symbol: char) -> bool {
        let is_there = self.is_symbol(symbol);
        self.at += usize::from(is_there);
        is_there
    }

    /// Drops boxes: what they hold stays as a group.
    fn skip_looks(&mut self) {
        self.tokens.retain(|token| {
            !matches!(token, Token::Command(name) if name == "boxed" || name == "fbox" || name == "beginboxed")
        });
    }

    /// Passes over the first word of `either 4 or 5` and `both 4 and 5`.
    fn skip_announcement(&mut self) {
        let wanted = match self.tokens.first() {
            Some(Token::Text(word)) if word.eq_ignore_ascii_case("either") => Separator::Or,
            Some(Token::Text(word)) if word.eq_ignore_ascii_case("both") => Separator::And,
            _ => return,
        };
        let is_wanted =
            |token: &Token| matches!(token, Token::Text(word) if conjunction(word) == Some(wanted));
        self.at = usize::from(self.tokens.iter().any(is_wanted));
    }

    /// Runs a reader one level deeper; none where that is too deep or the tree too large.
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.nodes += 1;
        if self.depth >= MAX_DEPTH || self.nodes > MAX_NODES {
            return None;
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    /// Items between commas, semicolons or "and"; one item is itself.
    pub(super) fn list(&mut self) -> Option<Expr> {
        let mut groups = vec![vec![self.item()?]];
        let mut words = Vec::new();
        loop {
            let mut is_break = false;
            let mut is_separated = false;
            while let Some(separator) = self.separator() {
                is_separated = true;
                is_break |= separator == Separator::Semicolon;
                words.extend(separator.join());
                self.at += 1;
            }
            if !is_separated {
                break;
            }
            if self.at == self.tokens.len() {
                break;
            }
            let item = self.item()?;
            match groups.last_mut() {
                Some(group) if !is_break => group.push(item),
                _ => groups.push(vec![item]),
            }
        }
        let is_grouped = groups.len() > 1 && groups.iter().any(|group| group.len() > 1);
        let mut items: Vec<Expr> = if is_grouped {
            groups.into_iter().map(|group| Expr::Bracketed('(', group, ')')).collect()
        } else {
            groups.into_iter().flatten().collect()
        };
        if items.len() == 1 {
            return items.pop();
        }
        words.dedup();
        let join = if words.len() == 1 { words[0] } else { Join::Plain };
        Some(Expr::List(items, join))
    }

    fn separator(&self) -> Option<Separator> {
        match self.peek()? {
            Token::Symbol(',') => Some(Separator::Comma),
            Token::Symbol(';') => Some(Separator::Semicolon),
            Token::Text(word) => conjunction(word),
            _ => None,
        }
    }

    /// A relation or a value with its unit.
    pub(super) fn item(&mut self) -> Option<Expr> {
        self.deeper(|parser| {
            if matches!(parser.relation(), Some(Relation::Equal | Relation::About)) {
                parser.at += 1;
            }
            let first = parser.side()?;
            let mut others = Vec::new();
            while let Some(relation) = parser.relation() {
                parser.at += 1;
                others.push((relation, parser.side()?));
            }
            let is_alone = others.is_empty();
            Some(if is_alone { first } else { Expr::Related(Box::new(first), others) })
        })
    }

    fn relation(&self) -> Option<Relation> {
        Some(match self.peek()? {
            Token::Symbol('=') => Relation::Equal,
            Token::Symbol('<') => Relation::Less,
            Token::Symbol('>') => Relation::Greater,
            Token::Command(name) => match name.as_str() {
                "le" => Relation::LessEqual,
                "ge" => Relation::GreaterEqual,
                "ne" => Relation::NotEqual,
                "in" => Relation::Element,
                "approx" | "sim" | "simeq" => Relation::About,
                "equiv" => Relation::Equal,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Unions, ratios or sums, with the modulus and the unit behind.
    fn side(&mut self) -> Option<Expr> {
        let mut parts = vec![self.combination()?];
        while self.is_command("cup") || self.peek() == Some(&Token::Letter('U')) {
            self.at += 1;
            parts.push(self.combination()?);
        }
        let mut value = if parts.len() == 1 { parts.pop()? } else { Expr::Union(parts) };
        if self.is_command("setminus") || self.is_command("backslash") {
            self.at += 1;
            let without = self.deeper(Self::primary)?;
            value = super::interval::without_points(&value, &without, &self.budget)?;
        }
        let value = self.modulo(value)?;
        self.unit(value)
    }

    /// `n \choose k`, or what stands alone.
    fn combination(&mut self) -> Option<Expr> {
        let above = self.ratio()?;
        if !self.is_command("choose") && !self.is_text("choose") {
            return Some(above);
        }
        self.at += 1;
        let below = self.sum()?;
        Some(Expr::Binomial(Box::new(above), Box::new(below)))
    }

    fn is_text(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Text(text)) if text.eq_ignore_ascii_case(word))
    }

    /// The `\pmod 5` or `(mod 5)` behind a value.
    fn modulo(&mut self, value: Expr) -> Option<Expr> {
        let is_bracketed = self.begins_modulus();
        self.at += usize::from(is_bracketed);
        if !self.is_command("pmod") && !self.is_text("mod") {
            return Some(value);
        }
        self.at += 1;
        let modulus = self.signed()?;
        (!is_bracketed || self.takes(')')).then(|| Expr::Modulo(Box::new(value), Box::new(modulus)))
    }

    fn begins_modulus(&self) -> bool {
        match self.tokens.get(self.at..self.at + 2) {
            Some([Token::Symbol('('), Token::Command(name)]) => name == "pmod",
            Some([Token::Symbol('('), Token::Text(text)]) => text.eq_ignore_ascii_case("mod"),
            _ => false,
        }
    }

    fn ratio(&mut self) -> Option<Expr> {
        let mut parts = vec![self.sum()?];
        while self.is_symbol(':') || (self.is_text("to") && parts[0].is_scalar()) {
            self.at += 1;
            parts.push(self.sum()?);
        }
        if parts.len() == 1 {
            return parts.pop();
        }
        if parts.iter().all(Expr::is_scalar) { Some(Expr::Ratio(parts)) } else { None }
    }

    /// Text behind a value is its unit; text behind text goes on with it.
    fn unit(&mut self, value: Expr) -> Option<Expr> {
        let words = self.unit_words(matches!(value, Expr::Text(_)))?;
        if words.is_empty() {
            return Some(value);
        }
        let unit = words.join(" ");
        if let Some(scale) = super::units::temperature_scale(&unit)
            && let Some(temperature) = without_degrees(&value)
        {
            return Some(Expr::Quantity(Box::new(temperature), scale.to_owned()));
        }
        if let Expr::Text(text) = value {
            return Some(Expr::Text(format!("{text} {unit}")));
        }
        let (zeros, unit) = super::units::magnitude(&unit);
        let value = match (zeros, value) {
            (None, value) => value,
            (Some(factor), Expr::Quantity(inner, sign)) => {
                Expr::Quantity(Box::new(Expr::Product(vec![*inner, factor])), sign)
            }
            (Some(factor), value) => Expr::Product(vec![value, factor]),
        };
        Some(match super::units::canonical(unit).as_str() {
            "" if unit.is_empty() => value,
            "percent" => Expr::Percent(Box::new(value)),
            "degree" => Expr::Degrees(Box::new(value)),
            _ => Expr::Quantity(Box::new(value), unit.to_owned()),
        })
    }

    fn unit_words(&mut self, is_text: bool) -> Option<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Text(word)) if conjunction(word).is_none() => words.push(word.clone()),
                Some(Token::Currency(sign)) => words.push(sign.to_string()),
                Some(Token::Symbol('.')) if !words.is_empty() => {}
                Some(Token::Symbol('/')) if !words.is_empty() || self.is_per_unit() => {
                    words.push("per".into());
                }
                Some(Token::Symbol('^')) if !words.is_empty() => {
                    self.at += 1;
                    let digit = self.exponent_digit()?;
                    words.push(digit);
                    continue;
                }
                Some(Token::Letter(letter)) if !words.is_empty() => words.push(letter.to_string()),
                Some(Token::Number(digits, 0)) if is_text => words.push(digits.clone()),
                _ => return Some(words),
            }
            self.at += 1;
        }
    }

    /// Whether a slash with text behind it stands here, as in `$18/day`.
    fn is_per_unit(&self) -> bool {
        self.is_symbol('/') && matches!(self.tokens.get(self.at + 1), Some(Token::Text(_)))
    }

    fn exponent_digit(&mut self) -> Option<String> {
        let is_braced = self.takes('{');
        let Some(Token::Number(digits, 0)) = self.peek().cloned() else { return None };
        self.at += 1;
        (!is_braced || self.takes('}')).then_some(digits)
    }

    pub(super) fn sum(&mut self) -> Option<Expr> {
        let mut parts = Vec::new();
        loop {
            let sign = match self.peek() {
                Some(Token::Symbol(sign @ ('+' | '-'))) => *sign,
                Some(Token::Command(name)) if name == "pm" || name == "mp" => '±',
                _ if parts.is_empty() => ' ',
                _ => break,
            };
            self.at += usize::from(sign != ' ');
            let term = self.deeper(Self::product)?;
            parts.push(match sign {
                '-' => Expr::Negative(Box::new(term)),
                '±' => Expr::PlusMinus(Box::new(term)),
                _ => term,
            });
        }
        if parts.len() == 1 { parts.pop() } else { Some(Expr::Sum(parts)) }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut factors = vec![self.signed()?];
        loop {
            if self.takes('*') {
                factors.push(self.signed()?);
            } else if !self.is_per_unit() && self.takes('/') {
                let divisor = self.signed()?;
                factors.push(Expr::Quotient(Box::new(Expr::small(1)), Box::new(divisor)));
            } else if self.begins_factor() && !self.begins_union(factors.last()) {
                let last = factors.pop()?;
                factors.extend(self.juxtaposed(last)?);
            } else {
                break;
            }
        }
        if factors.len() == 1 { factors.pop() } else { Some(Expr::Product(factors)) }
    }

    /// Whether the letter U behind an interval joins it with the next.
    fn begins_union(&self, last: Option<&Expr>) -> bool {
        self.peek() == Some(&Token::Letter('U')) && matches!(last, Some(Expr::Bracketed(..)))
    }

    /// A value right behind another: a product, or the fraction of a mixed number.
    fn juxtaposed(&mut self, last: Expr) -> Option<Vec<Expr>> {
        if matches!(last, Expr::Text(_)) {
            return None;
        }
        let is_integer = matches!(&last, Expr::Number(literal) if literal.places == 0);
        if let Some(Token::Number(above, 0)) = self.peek().cloned() {
            let below = match &self.tokens[self.at + 1..] {
                [Token::Symbol('/'), Token::Number(below, 0), ..] => below.clone(),
                _ => return None,
            };
            if !is_integer {
                return None;
            }
            self.at += 3;
            let number = |digits| Box::new(Expr::Number(Literal { digits, places: 0 }));
            let fraction = Expr::Quotient(number(above), number(below));
            return Some(vec![Expr::Sum(vec![last, fraction])]);
        }
        if matches!(self.peek(), Some(Token::Number(..))) {
            return None;
        }
        Some(match self.power()? {
            next if is_integer && is_fraction(&next) => vec![Expr::Sum(vec![last, next])],
            Expr::Percent(next) if is_integer && is_fraction(&next) => {
                vec![Expr::Percent(Box::new(Expr::Sum(vec![last, *next])))]
            }
            Expr::Degrees(next) if is_integer && is_fraction(&next) => {
                vec![Expr::Degrees(Box::new(Expr::Sum(vec![last, *next])))]
            }
            next => vec![last, next],
        })
    }

    pub(super) fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Number(..) | Token::Letter(_)) => true,
            Some(Token::Symbol('(')) if self.begins_modulus() => false,
            Some(Token::Symbol(symbol)) => matches!(symbol, '(' | '[' | '{'),
            Some(Token::Command(name)) => {
                Function::named(name).is_some()
                    || constant(name).is_some()
                    || is_greek(name)
                    || matches!(name.as_str(), "frac" | "sqrt" | "binom" | "lfloor" | "lceil")
            }
            _ => false,
        }
    }

    pub(super) fn signed(&mut self) -> Option<Expr> {
        if self.takes('-') {
            return Some(Expr::Negative(Box::new(self.deeper(Self::signed)?)));
        }
        if self.takes('+') {
            return self.deeper(Self::signed);
        }
        if let Some(Token::Currency(sign)) = self.peek() {
            let sign = sign.to_string();
            self.at += 1;
            return Some(Expr::Quantity(Box::new(self.deeper(Self::signed)?), sign));
        }
        self.power()
    }

    pub(super) fn power(&mut self) -> Option<Expr> {
        self.deeper(|parser| {
            let base = parser.primary()?;
            parser.suffixes(base)
        })
    }

    /// Exponents, factorials, percent and degree signs behind a value.
    fn suffixes(&mut self, mut base: Expr) -> Option<Expr> {
        for _ in 0..4 {
            if self.takes('^') {
                base = self.raised(base)?;
            } else if self.takes('!') {
                base = Expr::Factorial(Box::new(base));
            } else if self.takes('%') {
                base = Expr::Percent(Box::new(base));
            } else {
                return Some(base);
            }
        }
        Some(base)
    }

    fn raised(&mut self, base: Expr) -> Option<Expr> {
        let is_braced = self.is_symbol('{');
        let at = self.at + usize::from(is_braced);
        if matches!(self.tokens.get(at), Some(Token::Command(name)) if name == "circ") {
            self.at = at + 1;
            let is_closed = !is_braced || self.takes('}');
            self.scale_as_text();
            return is_closed.then(|| Expr::Degrees(Box::new(base)));
        }
        if let Some(end) = self.end_of_ordinal(at) {
            self.at = end;
            let is_closed = !is_braced || self.takes('}');
            return is_closed.then(|| Expr::Quantity(Box::new(base), "ordinal".into()));
        }
        let exponent = if is_braced {
            self.group()?
        } else if self.takes('-') {
            Expr::Negative(Box::new(self.deeper(Self::power)?))
        } else {
            self.deeper(Self::power)?
        };
        if let Some(inverse) = self.inverse_function(&base, &exponent) {
            return Some(inverse);
        }
        Some(Expr::Power(Box::new(base), Box::new(exponent)))
    }

    /// The name of the inverse that `f^{-1}(` begins with; without brackets it is a power.
    fn inverse_function(&self, base: &Expr, exponent: &Expr) -> Option<Expr> {
        let Expr::Name(name) = base else { return None };
        let is_function = matches!(name.as_str(), "f" | "g" | "h" | "F" | "G" | "H");
        let is_inverse = *exponent == Expr::small(1).negated();
        (is_function && is_inverse && self.is_symbol('('))
            .then(|| Expr::Name(format!("{name}{INVERSE}")))
    }

    /// Makes the letter of a scale of temperature behind a degree sign the text that it means.
    fn scale_as_text(&mut self) {
        let rest = self.tokens.get(self.at..).unwrap_or(&[]);
        let (letter, width) = match rest {
            [Token::Symbol('{'), Token::Letter(letter), Token::Symbol('}'), ..] => (*letter, 3),
            [Token::Letter(letter), ..] => (*letter, 1),
            _ => return,
        };
        let is_last = !matches!(
            rest.get(width),
            Some(Token::Letter(_) | Token::Number(..) | Token::Symbol('(' | '^' | '_' | '{'))
        );
        if matches!(letter, 'F' | 'C') && is_last {
            self.tokens.splice(self.at..self.at + width, [Token::Text(letter.to_string())]);
        }
    }

    /// Where a raised `st`, `nd`, `rd` or `th` ends.
    fn end_of_ordinal(&self, at: usize) -> Option<usize> {
        const ENDINGS: [&str; 4] = ["st", "nd", "rd", "th"];
        match self.tokens.get(at..)? {
            [Token::Text(text), ..] if ENDINGS.contains(&text.as_str()) => Some(at + 1),
            [Token::Letter(first), Token::Letter(second), ..]
                if ENDINGS.contains(&format!("{first}{second}").as_str()) =>
            {
                Some(at + 2)
            }
            _ => None,
        }
    }
}

/// What stands before a degree sign: the number of a temperature.
fn without_degrees(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Degrees(inner) => Some((**inner).clone()),
        Expr::Negative(inner) => without_degrees(inner).map(Expr::negated),
        _ => None,
    }
}

/// A fraction of two plain numbers.
fn is_fraction(expr: &Expr) -> bool {
    matches!(expr, Expr::Quotient(above, below)
        if matches!((&**above, &**below), (Expr::Number(_), Expr::Number(_))))
}

/// What stands between the items of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    Comma,
    Semicolon,
    And,
    Or,
}

impl Separator {
    fn join(self) -> Option<Join> {
        match self {
            Self::And => Some(Join::And),
            Self::Or => Some(Join::Or),
            Self::Comma | Self::Semicolon => None,
        }
    }
}

fn conjunction(word: &str) -> Option<Separator> {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.eq_ignore_ascii_case("and") {
        Some(Separator::And)
    } else if bare.eq_ignore_ascii_case("or") {
        Some(Separator::Or)
    } else {
        (word.trim() == ",").then_some(Separator::Comma)
    }
}
