//! Values: numbers, names, brackets, roots, fractions, functions and matrices.

use super::expr::{Constant, Expr, Function, Join, Literal};
use super::parse::Parser;
use super::token::Token;

impl Parser {
    pub(super) fn primary(&mut self) -> Option<Expr> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(digits, places) => self.number(digits, places),
            Token::Repeating(digits, places, block) => Some(repeating(digits, places, block)),
            Token::Letter(letter) => Some(self.name(letter.to_string())?),
            Token::Text(text) => self.text(text),
            Token::Begin(environment) => self.matrix(&environment),
            Token::Command(name) => self.command(&name),
            Token::Symbol('{') if self.is_symbol('}') => {
                self.at += 1;
                self.deeper(Self::combinations)
            }
            Token::Symbol('^' | '_') => {
                self.at -= 1;
                self.deeper(Self::combinations)
            }
            Token::Symbol('{') => {
                self.at -= 1;
                self.group()
            }
            Token::Symbol(open @ ('(' | '[' | '⦃')) => self.bracketed(open),
            Token::Symbol('|') => {
                let inner = self.deeper(Self::sum)?;
                self.takes('|').then(|| Expr::Call(Function::Abs, Box::new(inner)))
            }
            _ => None,
        }
    }

    fn number(&mut self, digits: String, places: usize) -> Option<Expr> {
        if self.takes('_') {
            let whole = self.based(digits)?;
            let Expr::Based(_, base) = whole else { return None };
            let places = Box::new(Expr::small(u32::try_from(places).ok()?));
            let scale = Expr::Power(Box::new(Expr::small(base)), places.clone());
            let is_whole = *places == Expr::small(0);
            return Some(if is_whole {
                whole
            } else {
                Expr::Quotient(Box::new(whole), Box::new(scale))
            });
        }
        Some(Expr::Number(Literal { digits, places }))
    }

    fn based(&mut self, digits: String) -> Option<Expr> {
        let is_braced = self.takes('{');
        let base = match self.peek()? {
            Token::Number(base, 0) => base.clone(),
            Token::Text(word) => super::words::number(word)?.to_string(),
            _ => return None,
        };
        self.at += 1;
        let base = base.parse().ok().filter(|base| (2..=36).contains(base))?;
        let is_closed = !is_braced || self.takes('}');
        let is_valid = digits.chars().all(|digit| digit.is_digit(base));
        if is_closed && is_valid { Some(Expr::Based(digits, base)) } else { None }
    }

    fn text(&mut self, text: String) -> Option<Expr> {
        if self.takes('_') {
            return self.based(text);
        }
        let parts: Vec<&str> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.len() < 2 {
            return Some(Expr::Text(text));
        }
        let items = parts.into_iter().map(|part| Expr::Text(part.into())).collect();
        Some(Expr::List(items, Join::Plain))
    }

    /// `_5C_2` or `^5C_2` after the part that names nothing.
    fn combinations(&mut self) -> Option<Expr> {
        if !self.takes('_') && !self.takes('^') {
            return None;
        }
        let above = self.argument()?;
        if self.peek() != Some(&Token::Letter('C')) {
            return None;
        }
        self.at += 1;
        if !self.takes('_') {
            return None;
        }
        let below = self.argument()?;
        Some(Expr::Binomial(Box::new(above), Box::new(below)))
    }

    /// The `(5, 2)` of `C(5, 2)`.
    fn combinations_of(&mut self) -> Option<Expr> {
        let number =
            |digits: &String| Box::new(Expr::Number(Literal { digits: digits.clone(), places: 0 }));
        let [
            Token::Symbol('('),
            Token::Number(above, 0),
            Token::Symbol(','),
            Token::Number(below, 0),
            Token::Symbol(')'),
            ..,
        ] = self.tokens.get(self.at..)?
        else {
            return None;
        };
        let found = Expr::Binomial(number(above), number(below));
        self.at += 5;
        Some(found)
    }

    /// A name with its subscript and primes; `e` and `i` are numbers unless subscripted.
    fn name(&mut self, mut name: String) -> Option<Expr> {
        if name == "C"
            && let Some(found) = self.combinations_of()
        {
            return Some(found);
        }
        if self.takes('_') {
            name.push('_');
            name.push_str(&self.subscript()?);
        }
        while self.takes('\'') {
            name.push('\'');
        }
        Some(match name.as_str() {
            "e" => Expr::Constant(Constant::E),
            "i" => Expr::Constant(Constant::I),
            _ => Expr::Name(name),
        })
    }

    fn subscript(&mut self) -> Option<String> {
        if !self.takes('{') {
            let token = self.peek()?.clone();
            self.at += 1;
            return plain_text(&token);
        }
        let mut held = String::new();
        while !self.takes('}') {
            held.push_str(&plain_text(self.peek()?)?);
            self.at += 1;
        }
        Some(held)
    }

    /// What braces hold: one value, or with commas a set.
    pub(super) fn group(&mut self) -> Option<Expr> {
        if !self.takes('{') {
            return None;
        }
        if let Some(condition) = self.set_builder() {
            let condition = self.deeper(condition)?;
            return self.takes('}').then(|| super::interval::set_of(condition, &self.budget));
        }
        let inner = self.deeper(Self::list)?;
        if !self.takes('}') {
            return None;
        }
        Some(match inner {
            Expr::List(items, _) => Expr::Bracketed('{', items, '}'),
            value => value,
        })
    }

    /// Passes over the `x \mid` of a set of all x for which something holds, and says how to read
    /// on.
    fn set_builder(&mut self) -> Option<fn(&mut Self) -> Option<Expr>> {
        if !matches!(self.peek(), Some(Token::Letter(_))) {
            return None;
        }
        let mut ahead = self.at + 1;
        let is_member =
            matches!(self.tokens.get(ahead), Some(Token::Command(name)) if name == "in");
        if is_member {
            ahead += 2;
        }
        if !matches!(self.tokens.get(ahead), Some(Token::Symbol('|' | ':'))) {
            return None;
        }
        self.at = ahead + 1;
        Some(Self::list)
    }

    fn bracketed(&mut self, open: char) -> Option<Expr> {
        if open == '⦃'
            && let Some(condition) = self.set_builder()
        {
            let condition = self.deeper(condition)?;
            return self.takes('⦄').then(|| super::interval::set_of(condition, &self.budget));
        }
        let closers: &[char] = if open == '⦃' { &['⦄'] } else { &[')', ']'] };
        let mut items = Vec::new();
        let mut is_list = open == '⦃';
        while !self.peek().is_some_and(|token| closers.iter().any(|&c| *token == Token::Symbol(c)))
        {
            items.push(self.item()?);
            if !matches!(self.peek(), Some(Token::Symbol(',' | ';'))) {
                break;
            }
            is_list = true;
            self.at += 1;
        }
        let close = closers.iter().copied().find(|&close| self.takes(close))?;
        if open == '⦃' {
            return Some(Expr::Bracketed('{', items, '}'));
        }
        let is_group = !is_list && items.len() == 1 && (open == '(') == (close == ')');
        let is_matrix = is_group && matches!(items[0], Expr::Matrix(_));
        if is_matrix || is_group && (open == '(' || items[0].is_scalar() && self.begins_factor()) {
            return items.pop();
        }
        Some(Expr::Bracketed(open, items, close))
    }

    fn matrix(&mut self, environment: &str) -> Option<Expr> {
        if !["matrix", "array"].iter().any(|kind| environment.trim_end_matches('*').ends_with(kind))
        {
            return None;
        }
        let (mut rows, mut row) = (Vec::new(), Vec::new());
        loop {
            match self.peek()? {
                Token::Symbol('&') => self.at += 1,
                Token::RowBreak => {
                    self.at += 1;
                    rows.push(std::mem::take(&mut row));
                }
                Token::End(_) => {
                    self.at += 1;
                    break;
                }
                _ => row.push(self.item()?),
            }
        }
        if !row.is_empty() {
            rows.push(row);
        }
        match (environment, rows.as_slice()) {
            ("vmatrix", [upper, lower]) => determinant(upper, lower),
            ("vmatrix" | "Vmatrix", _) => None,
            _ => Some(Expr::Matrix(rows)),
        }
    }

    /// `\overline{AB}`, a name of its own.
    fn overlined(&mut self) -> Option<Expr> {
        let held = self.subscript()?;
        let is_name = held.chars().all(|c| c.is_ascii_alphabetic());
        is_name.then(|| Expr::Name(format!("overline {held}")))
    }

    fn command(&mut self, name: &str) -> Option<Expr> {
        match name {
            "frac" => {
                let above = self.argument()?;
                let below = self.argument()?;
                Some(Expr::Quotient(Box::new(above), Box::new(below)))
            }
            "binom" => {
                let above = self.argument()?;
                let below = self.argument()?;
                Some(Expr::Binomial(Box::new(above), Box::new(below)))
            }
            "sqrt" => self.root(),
            "lfloor" | "lceil" => {
                let inner = self.deeper(Self::sum)?;
                let (close, function) = match name {
                    "lfloor" => ("rfloor", Function::Floor),
                    _ => ("rceil", Function::Ceil),
                };
                let is_closed = self.is_command(close);
                self.at += 1;
                is_closed.then(|| Expr::Call(function, Box::new(inner)))
            }
            "emptyset" | "varnothing" => Some(Expr::Bracketed('{', Vec::new(), '}')),
            "overline" | "bar" => self.overlined(),
            name => self.named(name),
        }
    }

    fn named(&mut self, name: &str) -> Option<Expr> {
        if let Some(constant) = constant(name) {
            return Some(Expr::Constant(constant));
        }
        if let Some(function) = Function::named(name) {
            return self.call(function);
        }
        if is_greek(name) { self.name(name.to_owned()) } else { None }
    }

    fn root(&mut self) -> Option<Expr> {
        let mut index = Expr::small(2);
        if self.takes('[') {
            index = self.deeper(Self::sum)?;
            if !self.takes(']') {
                return None;
            }
        }
        let radicand =
            if self.is_symbol('{') { self.group()? } else { self.deeper(Self::primary)? };
        Some(Expr::Root(Box::new(radicand), Box::new(index)))
    }

    /// The argument of `\frac`: a group, or one digit or letter.
    fn argument(&mut self) -> Option<Expr> {
        let at = self.at;
        if let Some(Token::Number(digits, places)) = self.tokens.get_mut(at)
            && digits.len() > 1
            && *places == 0
        {
            let first = digits.remove(0);
            return Some(Expr::Number(Literal { digits: first.into(), places: 0 }));
        }
        if self.is_symbol('{') { self.group() } else { self.deeper(Self::primary) }
    }

    fn call(&mut self, function: Function) -> Option<Expr> {
        let mut function = function;
        let (mut base, mut exponent) = (None, None);
        if function == Function::Log10 && self.takes('_') {
            base = Some(self.argument()?);
        }
        if self.takes('^') {
            let raised = self.argument_of_power()?;
            match (&raised, function.inverse()) {
                (Expr::Negative(one), Some(inverse)) if **one == Expr::small(1) => {
                    function = inverse;
                }
                _ => exponent = Some(raised),
            }
        }
        let argument = Box::new(self.deeper(Self::function_argument)?);
        let value = match base {
            Some(base) => Expr::Log(Box::new(base), argument),
            None => Expr::Call(function, argument),
        };
        Some(match exponent {
            Some(exponent) => Expr::Power(Box::new(value), Box::new(exponent)),
            None => value,
        })
    }

    fn argument_of_power(&mut self) -> Option<Expr> {
        if self.is_symbol('{') { self.group() } else { self.argument() }
    }

    /// What a function without brackets takes: factors up to the next function or bracket.
    fn function_argument(&mut self) -> Option<Expr> {
        if self.is_symbol('(') || self.is_symbol('{') {
            return self.power();
        }
        let mut factors = vec![self.signed()?];
        while self.begins_factor()
            && !self.is_symbol('(')
            && !matches!(self.peek(), Some(Token::Command(name)) if Function::named(name).is_some())
            && !matches!(self.peek(), Some(Token::Number(..)))
        {
            factors.push(self.power()?);
        }
        if factors.len() == 1 { factors.pop() } else { Some(Expr::Product(factors)) }
    }
}

/// A decimal and the block of digits that follows it without end.
fn repeating(digits: String, places: usize, block: String) -> Expr {
    let nines = "9".repeat(block.len()) + &"0".repeat(places);
    let whole = |digits| Box::new(Expr::Number(Literal { digits, places: 0 }));
    let tail = Expr::Quotient(whole(block), whole(nines));
    Expr::Sum(vec![Expr::Number(Literal { digits, places }), tail])
}

fn determinant(upper: &[Expr], lower: &[Expr]) -> Option<Expr> {
    let ([a, b], [c, d]) = (upper, lower) else { return None };
    let product = |left: &Expr, right: &Expr| Expr::Product(vec![left.clone(), right.clone()]);
    let is_scalar = [a, b, c, d].iter().all(|part| part.is_scalar());
    is_scalar.then(|| Expr::Sum(vec![product(a, d), product(b, c).negated()]))
}

pub(super) fn constant(name: &str) -> Option<Constant> {
    match name {
        "pi" => Some(Constant::Pi),
        "infty" => Some(Constant::Infinity),
        _ => None,
    }
}

pub(super) fn is_greek(name: &str) -> bool {
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "theta",
        "lambda",
        "mu",
        "nu",
        "phi",
        "varphi",
        "psi",
        "omega",
        "rho",
        "sigma",
        "tau",
        "xi",
        "eta",
        "zeta",
        "kappa",
        "ell",
        "Delta",
        "Omega",
        "Gamma",
        "Sigma",
        "Phi",
        "chi",
    ]
    .contains(&name)
}

fn plain_text(token: &Token) -> Option<String> {
    match token {
        Token::Number(digits, 0) => Some(digits.clone()),
        Token::Letter(letter) => Some(letter.to_string()),
        Token::Text(text) | Token::Command(text) => Some(text.clone()),
        Token::Symbol(symbol @ ('+' | '-' | ',')) => Some(symbol.to_string()),
        _ => None,
    }
}
