//! The tree that an answer is read into.
//!
//! Sums and products hold all their parts in one node, and whatever nests is counted against the
//! depth that the parser allows, so the functions that walk a tree recurse at most that deep.

/// A number as written: its digits, and how many of them stand behind the point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) digits: String,
    pub(super) places: usize,
}

impl Literal {
    /// Significant digits.
    pub(super) fn significant(&self) -> usize {
        self.digits.trim_start_matches('0').len()
    }

    /// The value, if it is an integer that fits.
    pub(super) fn integer(&self) -> Option<i128> {
        let (whole, rest) = self.digits.split_at(self.digits.len() - self.places);
        if rest.bytes().any(|digit| digit != b'0') {
            return None;
        }
        if whole.is_empty() { Some(0) } else { whole.parse().ok() }
    }

    /// The nearest float.
    pub(super) fn float(&self) -> f64 {
        let (whole, rest) = self.digits.split_at(self.digits.len() - self.places);
        format!("0{whole}.{rest}0").parse().unwrap_or(f64::NAN)
    }
}

/// Numbers with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    Pi,
    E,
    I,
    Infinity,
}

/// Functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Ln,
    Log10,
    Exp,
    Abs,
    Floor,
    Ceil,
}

impl Function {
    /// The function of this name, as LaTeX and programs write it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" => Self::Cot,
            "sec" => Self::Sec,
            "csc" => Self::Csc,
            "arcsin" | "asin" => Self::Arcsin,
            "arccos" | "acos" => Self::Arccos,
            "arctan" | "atan" => Self::Arctan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "ln" => Self::Ln,
            "log" | "lg" => Self::Log10,
            "exp" => Self::Exp,
            "abs" => Self::Abs,
            _ => return None,
        })
    }

    /// The inverse that an exponent of -1 stands for.
    pub(super) fn inverse(self) -> Option<Self> {
        match self {
            Self::Sin => Some(Self::Arcsin),
            Self::Cos => Some(Self::Arccos),
            Self::Tan => Some(Self::Arctan),
            _ => None,
        }
    }
}

/// How two sides of a relation relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Element,
    About,
}

impl Relation {
    /// The relation with its sides swapped.
    pub(super) fn swapped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            other => other,
        }
    }
}

/// The word between the items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// Commas, or several words.
    Plain,
    And,
    Or,
}

/// An answer, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    Number(Literal),
    Constant(Constant),
    Name(String),
    /// Digits in a base from 2 to 36.
    Based(String, u32),
    Sum(Vec<Expr>),
    Product(Vec<Expr>),
    Negative(Box<Expr>),
    PlusMinus(Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    /// A radicand and the index of the root.
    Root(Box<Expr>, Box<Expr>),
    Call(Function, Box<Expr>),
    /// Base and argument.
    Log(Box<Expr>, Box<Expr>),
    Factorial(Box<Expr>),
    Binomial(Box<Expr>, Box<Expr>),
    Percent(Box<Expr>),
    Degrees(Box<Expr>),
    Quantity(Box<Expr>, String),
    Text(String),
    /// Items between brackets: a tuple, an interval, or with braces a set.
    Bracketed(char, Vec<Expr>, char),
    /// Items side by side.
    List(Vec<Expr>, Join),
    Union(Vec<Expr>),
    Ratio(Vec<Expr>),
    Matrix(Vec<Vec<Expr>>),
    Related(Box<Expr>, Vec<(Relation, Expr)>),
    /// A value and the modulus up to which it is meant.
    Modulo(Box<Expr>, Box<Expr>),
}

impl Expr {
    pub(super) fn small(value: u32) -> Self {
        Self::Number(Literal { digits: value.to_string(), places: 0 })
    }

    /// The expressions that a scalar expression is built of; none for structures.
    pub(super) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Sum(parts) | Self::Product(parts) => parts.iter().collect(),
            Self::Negative(inner)
            | Self::PlusMinus(inner)
            | Self::Call(_, inner)
            | Self::Factorial(inner)
            | Self::Percent(inner)
            | Self::Degrees(inner)
            | Self::Quantity(inner, _) => vec![inner],
            Self::Quotient(left, right)
            | Self::Power(left, right)
            | Self::Root(left, right)
            | Self::Log(left, right)
            | Self::Binomial(left, right) => vec![left, right],
            _ => Vec::new(),
        }
    }

    /// Whether `is_wanted` holds for this node or one below it.
    pub(super) fn any(&self, is_wanted: &dyn Fn(&Self) -> bool) -> bool {
        is_wanted(self) || self.children().into_iter().any(|child| child.any(is_wanted))
    }

    /// Whether this is a value rather than a structure.
    pub(super) fn is_scalar(&self) -> bool {
        if let Self::Quantity(inner, _) = self {
            return inner.is_scalar();
        }
        !matches!(
            self,
            Self::Text(_)
                | Self::Bracketed(..)
                | Self::List(..)
                | Self::Union(_)
                | Self::Ratio(_)
                | Self::Matrix(_)
                | Self::Related(..)
                | Self::Modulo(..)
        )
    }

    /// Whether no name stands in it.
    pub(super) fn is_constant(&self) -> bool {
        !self.any(&|node| matches!(node, Self::Name(_)))
    }

    /// A copy in which every ± has become + (or −, with `is_negative`).
    pub(super) fn with_sign(&self, is_negative: bool) -> Self {
        self.changed(&|node| match node {
            Self::PlusMinus(inner) if is_negative => {
                Some(Self::Negative(Box::new(inner.with_sign(true))))
            }
            Self::PlusMinus(inner) => Some(inner.with_sign(false)),
            _ => None,
        })
    }

    /// A copy with something else in the place of a name.
    pub(super) fn with_name(&self, name: &str, value: &Self) -> Self {
        self.changed(&|node| match node {
            Self::Name(found) if found == name => Some(value.clone()),
            _ => None,
        })
    }

    /// A copy of a scalar expression in which the nodes that `change` answers for are replaced.
    fn changed(&self, change: &dyn Fn(&Self) -> Option<Self>) -> Self {
        if let Some(changed) = change(self) {
            return changed;
        }
        let of = |inner: &Self| Box::new(inner.changed(change));
        let all = |parts: &[Self]| parts.iter().map(|part| part.changed(change)).collect();
        match self {
            Self::Sum(parts) => Self::Sum(all(parts)),
            Self::Product(parts) => Self::Product(all(parts)),
            Self::Negative(inner) => Self::Negative(of(inner)),
            Self::PlusMinus(inner) => Self::PlusMinus(of(inner)),
            Self::Call(function, inner) => Self::Call(*function, of(inner)),
            Self::Factorial(inner) => Self::Factorial(of(inner)),
            Self::Percent(inner) => Self::Percent(of(inner)),
            Self::Degrees(inner) => Self::Degrees(of(inner)),
            Self::Quantity(inner, unit) => Self::Quantity(of(inner), unit.clone()),
            Self::Quotient(left, right) => Self::Quotient(of(left), of(right)),
            Self::Power(left, right) => Self::Power(of(left), of(right)),
            Self::Root(left, right) => Self::Root(of(left), of(right)),
            Self::Log(left, right) => Self::Log(of(left), of(right)),
            Self::Binomial(left, right) => Self::Binomial(of(left), of(right)),
            other => other.clone(),
        }
    }

    /// The one name in a scalar expression; none where there are several or none.
    pub(super) fn only_name(&self) -> Option<&str> {
        let mut names = Vec::new();
        self.collect_names(&mut names);
        names.dedup();
        if names.len() == 1 { names.pop() } else { None }
    }

    fn collect_names<'a>(&'a self, names: &mut Vec<&'a str>) {
        if let Self::Name(name) = self {
            names.push(name);
        }
        for child in self.children() {
            child.collect_names(names);
        }
    }

    pub(super) fn negated(self) -> Self {
        Self::Negative(Box::new(self))
    }
}
