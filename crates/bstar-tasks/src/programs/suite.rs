//! The tests of a query: what a program is run on, and what is expected of it.
//!
//! Three forms, those of the published sets: runs with standard input and output (APPS), calls of a
//! function (APPS, "call-based"), and assertions in Python (HumanEval, MBPP). In a query they stand
//! as JSON in the place of the gold answer.

use super::source::defines;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The tests of one query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "form")]
pub enum Suite {
    /// The program is run once for each case.
    Streams {
        /// The cases, in order.
        cases: Vec<StreamCase>,
    },
    /// The program defines a function, or a class `Solution` with such a method.
    Calls {
        /// The function.
        function: String,
        /// The cases, in order.
        cases: Vec<CallCase>,
    },
    /// Python code that raises an exception if the program is wrong.
    Assertions {
        /// Run before the tests, beside them: helpers that the data set defines.
        setup: String,
        /// What a response goes on from, where it is a continuation; empty where it stands alone.
        prefix: String,
        /// The tests.
        tests: String,
        /// The function under test, where it is named.
        entry_point: Option<String>,
    },
}

/// Input and expected output of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCase {
    /// Standard input.
    pub input: String,
    /// Expected on standard output, up to white space.
    pub output: String,
}

/// Arguments and expected result of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallCase {
    /// The arguments, by position.
    pub arguments: Vec<Value>,
    /// The expected result.
    pub expected: Value,
}

impl Suite {
    /// The tests of an APPS row: `{"inputs": […], "outputs": […], "fn_name": …}`, or that as text.
    pub fn from_inputs_and_outputs(tests: &Value) -> Result<Self, String> {
        let parsed;
        let tests = match tests {
            Value::String(text) => {
                parsed = serde_json::from_str(text)
                    .map_err(|error| format!("the tests are broken JSON: {error}"))?;
                &parsed
            }
            value => value,
        };
        let fields = tests.as_object().ok_or("the tests are no object with inputs and outputs")?;
        let list = |name: &str| match fields.get(name) {
            Some(Value::Array(list)) => Ok(list),
            _ => Err(format!("no list `{name}` in the tests")),
        };
        let (inputs, outputs) = (list("inputs")?, list("outputs")?);
        if inputs.len() != outputs.len() {
            return Err(format!("{} inputs and {} outputs", inputs.len(), outputs.len()));
        }
        if inputs.is_empty() {
            return Err("no test case".to_owned());
        }
        let pairs = inputs.iter().zip(outputs);
        if let Some(Value::String(function)) = fields.get("fn_name") {
            let cases = pairs.map(|(input, output)| match input {
                Value::Array(arguments) => {
                    Ok(CallCase { arguments: arguments.clone(), expected: output.clone() })
                }
                _ => Err("the input of a call is no list of arguments".to_owned()),
            });
            return Ok(Self::Calls {
                function: function.clone(),
                cases: cases.collect::<Result<_, _>>()?,
            });
        }
        let cases = pairs.map(|(input, output)| {
            Ok(StreamCase { input: stream_text(input)?, output: stream_text(output)? })
        });
        Ok(Self::Streams { cases: cases.collect::<Result<_, String>>()? })
    }

    /// The tests of a HumanEval row: `test` defines `check(candidate)`, and a response goes on from
    /// the prompt. A prompt that does not begin the function is no code, and a response stands alone.
    pub fn from_check(prompt: &str, test: &str, entry_point: &str) -> Self {
        let prompt = if defines(prompt, entry_point) { prompt } else { "" };
        Self::Assertions {
            setup: if prompt.is_empty() {
                String::new()
            } else {
                format!("{prompt}\n{}pass\n", indentation(prompt))
            },
            prefix: prompt.to_owned(),
            tests: format!("{test}\n\ncheck({entry_point})\n"),
            entry_point: Some(entry_point.to_owned()),
        }
    }

    /// The tests of an MBPP row: one assertion each, after set-up code.
    pub fn from_assertions(assertions: &[String], setup: &str) -> Result<Self, String> {
        if assertions.is_empty() {
            return Err("no test case".to_owned());
        }
        Ok(Self::Assertions {
            // The set-up may use what the program defines, so it belongs to the tests.
            setup: String::new(),
            prefix: String::new(),
            tests: format!("{setup}\n{}\n", assertions.join("\n")),
            entry_point: None,
        })
    }

    /// Tests in whichever form a row has them: an object of inputs and outputs, a list of
    /// assertions, or code that defines `check` beside an `entry_point` (and a `prompt`).
    pub fn from_row(row: &Map<String, Value>, column: &str) -> Result<Self, String> {
        let text = |name: &str| row.get(name).and_then(Value::as_str);
        match row.get(column) {
            Some(Value::Array(list)) => {
                let assertions: Option<Vec<String>> =
                    list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                let assertions = assertions
                    .ok_or_else(|| format!("`{column}` is a list of something else than text"))?;
                Self::from_assertions(&assertions, &setup_of(row))
            }
            Some(Value::String(code)) if text("entry_point").is_some() => {
                let entry_point = text("entry_point").unwrap_or_default();
                Ok(Self::from_check(text("prompt").unwrap_or_default(), code, entry_point))
            }
            Some(tests @ (Value::Object(_) | Value::String(_))) => {
                Self::from_inputs_and_outputs(tests)
                    .map_err(|problem| format!("`{column}`: {problem}"))
            }
            Some(Value::Null) | None => Err(format!("no `{column}`")),
            Some(_) => Err(format!("`{column}` holds neither inputs and outputs nor assertions")),
        }
    }

    /// What a prompt says of how a program is used; the words are those of APPS.
    pub(crate) fn input_format(&self) -> &'static str {
        match self {
            Self::Streams { .. } => "Use Standard Input format",
            Self::Calls { .. } | Self::Assertions { .. } => "Use Call-Based format",
        }
    }

    /// The assertions as text, where there are some.
    pub(crate) fn assertions(&self) -> &str {
        match self {
            Self::Assertions { tests, .. } => tests.trim(),
            Self::Streams { .. } | Self::Calls { .. } => "",
        }
    }

    /// The function that a program must define, where the tests name one.
    pub(super) fn entry_point(&self) -> Option<&str> {
        match self {
            Self::Streams { .. } => None,
            Self::Calls { function, .. } => Some(function),
            Self::Assertions { entry_point, .. } => entry_point.as_deref(),
        }
    }
}

/// How the body of the function that a prompt begins is indented.
fn indentation(prompt: &str) -> &str {
    let last = prompt.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    match &last[..last.len() - last.trim_start().len()] {
        "" => "    ",
        spaces => spaces,
    }
}

/// What MBPP runs before its assertions; the sanitized files have a list of imports.
fn setup_of(row: &Map<String, Value>) -> String {
    let text = row.get("test_setup_code").and_then(Value::as_str).unwrap_or_default();
    let imports = row.get("test_imports").and_then(Value::as_array).into_iter().flatten();
    let lines = imports.filter_map(Value::as_str).chain([text]);
    lines.collect::<Vec<_>>().join("\n")
}

/// Text of a stream; some rows hold a list of its lines.
fn stream_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(lines) => {
            let lines: Vec<String> = lines.iter().map(stream_text).collect::<Result<_, _>>()?;
            Ok(lines.join("\n"))
        }
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Object(_) => Err("an input or output is no text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_published_form_is_read() {
        let row = json!({"tests": {"inputs": ["1\n", ["2", "3"]], "outputs": ["1", 5]}});
        let Suite::Streams { cases } = Suite::from_row(row.as_object().unwrap(), "tests").unwrap()
        else {
            panic!("runs")
        };
        assert_eq!(cases[1], StreamCase { input: "2\n3".into(), output: "5".into() });

        let quoted = json!({"fn_name": "f", "inputs": [[1, [2]]], "outputs": [3]}).to_string();
        let row = json!({"tests": quoted});
        let suite = Suite::from_row(row.as_object().unwrap(), "tests").unwrap();
        assert_eq!(suite.entry_point(), Some("f"));

        let row = json!({"tests": ["assert f(1) == 2"], "test_setup_code": "import math"});
        let Suite::Assertions { setup, prefix, tests, .. } =
            Suite::from_row(row.as_object().unwrap(), "tests").unwrap()
        else {
            panic!("assertions")
        };
        assert_eq!((setup.as_str(), prefix.as_str()), ("", ""));
        assert_eq!(tests, "import math\nassert f(1) == 2\n");

        let test = "def check(candidate):\n    assert candidate(1) == 2\n";
        let row = json!({"tests": test, "entry_point": "f", "prompt": "def f(x):\n"});
        let suite = Suite::from_row(row.as_object().unwrap(), "tests").unwrap();
        assert_eq!(suite.entry_point(), Some("f"));

        let Suite::Assertions { setup, prefix, .. } = Suite::from_check("Write f.", test, "f")
        else {
            panic!("assertions")
        };
        assert_eq!((setup.as_str(), prefix.as_str()), ("", ""));
    }

    #[test]
    fn broken_tests_are_named() {
        for (row, problem) in [
            (json!({}), "no `tests`"),
            (json!({"tests": null}), "no `tests`"),
            (json!({"tests": 7}), "neither"),
            (json!({"tests": []}), "no test case"),
            (json!({"tests": [1]}), "something else than text"),
            (json!({"tests": "{"}), "broken JSON"),
            (json!({"tests": {"inputs": []}}), "no list `outputs`"),
            (json!({"tests": {"inputs": [], "outputs": []}}), "no test case"),
            (json!({"tests": {"inputs": ["1"], "outputs": []}}), "1 inputs and 0 outputs"),
            (json!({"tests": {"inputs": [1], "outputs": [1], "fn_name": "f"}}), "no list of arg"),
        ] {
            let error = Suite::from_row(row.as_object().unwrap(), "tests").unwrap_err();
            assert!(error.contains(problem), "{row}: {error}");
        }
    }
}
