//! Values: numbers, names, brackets, roots, fractions, functions and matrices.

use super::expr::{Constant, Expr, Function, Literal};
use super::parse::Parser;
use super::token::Token;

impl Parser {
    pub(super) fn primary(&mut self) -> Option<Expr> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(digits, places) => self.number(digits, places),
            Token::Letter(letter) => Some(self.name(letter.to_string())?),
            Token::Text(text) => self.text(text),
            Token::Begin(environment) => self.matrix(&environment),
            Token::Command(name) => self.command(&name),
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
        if let Some(Token::Text(_)) = self.peek() {
            return None;
        }
        let Some(Token::Number(base, 0)) = self.peek().cloned() else { return None };
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
        Some(Expr::List(parts.into_iter().map(|part| Expr::Text(part.into())).collect()))
    }

    /// A name with its subscript and primes; `e` and `i` are numbers unless subscripted.
    fn name(&mut self, mut name: String) -> Option<Expr> {
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
        let inner = self.deeper(Self::list)?;
        if !self.takes('}') {
            return None;
        }
        Some(match inner {
            Expr::List(items) => Expr::Bracketed('{', items, '}'),
            value => value,
        })
    }

    fn bracketed(&mut self, open: char) -> Option<Expr> {
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
        Some(Expr::Matrix(rows))
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
            "overline" => None,
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
