//! Templates with named fields: `# Question\n\n{question}`.
//!
//! Parsed once, with every field checked against those that exist; rendering cannot fail. `{{` and
//! `}}` are literal braces. What is put in is never parsed, so braces in data do no harm.

use bstar_core::{Fault, FaultClass};
use thiserror::Error;

/// A template over a fixed set of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

impl Template {
    /// Parses a template that may use the fields `known`. `key` is the setting it comes from.
    pub(crate) fn parse(
        text: &str,
        key: &'static str,
        known: &[&str],
    ) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced { key, template: text.to_owned() };
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let (field, after) = rest.split_once('}').ok_or_else(unbalanced)?;
            if brace == "}" || field.contains('{') {
                return Err(unbalanced());
            }
            if !known.contains(&field) {
                let known = known.iter().map(|&field| field.to_owned()).collect();
                return Err(TemplateError::UnknownField { key, field: field.to_owned(), known });
            }
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
            pieces.push(Piece::Field(field.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal));
        Ok(Self { pieces })
    }

    /// Puts in the values; a field without one becomes nothing.
    pub(crate) fn render(&self, values: &[(&str, &str)]) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => {
                    let value = values.iter().find(|(name, _)| name == field);
                    out.push_str(value.map_or("", |(_, value)| value));
                }
            }
        }
        out
    }

    /// Whether the field is used.
    pub(crate) fn uses(&self, field: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Field(name) if name == field))
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A field that does not exist.
    #[error("unknown field `{{{field}}}` in {key}")]
    UnknownField {
        /// The setting.
        key: &'static str,
        /// The field.
        field: String,
        /// The fields that exist.
        known: Vec<String>,
    },
    /// A brace without its partner.
    #[error("unbalanced braces in {key}: {template:?}")]
    Unbalanced {
        /// The setting.
        key: &'static str,
        /// The template.
        template: String,
    },
    /// A field that the template must use.
    #[error("no field `{{{field}}}` in {key}")]
    MissingField {
        /// The setting.
        key: &'static str,
        /// The field.
        field: &'static str,
    },
}

impl From<TemplateError> for Fault {
    fn from(error: TemplateError) -> Self {
        let hint = match &error {
            TemplateError::UnknownField { known, .. } => {
                let known: Vec<String> = known.iter().map(|field| format!("{{{field}}}")).collect();
                format!("use one of {}; write {{{{ for a brace", known.join(", "))
            }
            TemplateError::Unbalanced { .. } => "write {{ and }} for braces".to_owned(),
            TemplateError::MissingField { field, key } => format!("put {{{field}}} into {key}"),
        };
        Self::new(FaultClass::Usage, error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "task.files.prompt";

    fn check(template: &str, expected: &str) {
        let parsed = Template::parse(template, KEY, &["q", "c"]).unwrap();
        assert_eq!(parsed.render(&[("q", "{c}?"), ("c", "A")]), expected, "{template:?}");
    }

    #[test]
    fn fields_are_put_in_and_not_parsed_again() {
        check("Q: {q}\n{c}", "Q: {c}?\nA");
        check("{q}{q}", "{c}?{c}?");
        check("plain", "plain");
        check("\\boxed{{{c}}}", "\\boxed{A}");
        check("", "");
    }

    #[test]
    fn unknown_fields_and_lone_braces_are_errors() {
        let error = Template::parse("{question}", KEY, &["q", "c"]).unwrap_err();
        assert_eq!(error.to_string(), "unknown field `{question}` in task.files.prompt");
        let fault = Fault::from(error);
        assert_eq!(fault.class, FaultClass::Usage);
        assert_eq!(fault.hint.as_deref(), Some("use one of {q}, {c}; write {{ for a brace"));
        for template in ["{q", "q}", "{q {c}", "}{q}", "{", "}"] {
            let error = Template::parse(template, KEY, &["q", "c"]).unwrap_err();
            assert!(matches!(error, TemplateError::Unbalanced { .. }), "{template:?}: {error}");
        }
        assert!(Template::parse("{}", KEY, &["q"]).is_err());
    }

    proptest! {
        #[test]
        fn escaped_text_renders_as_itself(text in any::<String>()) {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            let parsed = Template::parse(&escaped, KEY, &[]).unwrap();
            prop_assert_eq!(parsed.render(&[]), text.clone());
            let _ = Template::parse(&text, KEY, &["q"]);
        }
    }
}
