//! Rows whose answers are programs: tests instead of a gold answer, and solutions that are code.

use crate::config::TaskKind;
use crate::format::{Column, Format};
use crate::programs::Suite;
use crate::records::{Record, RecordError, Source};
use bstar_core::{Query, QueryId};
use serde_json::Value;

impl Source<'_> {
    /// A query whose gold answer is its tests, as JSON.
    pub(crate) fn program(&self, id: QueryId, format: &Format) -> Result<Record, RecordError> {
        let columns = &format.columns;
        let tests = columns.tests.as_ref().expect("every kind of program has a column of tests");
        let suite = Suite::from_row(self.row, &tests.name)
            .map_err(|problem| self.gold_error(problem, Some(tests)))?;
        let question = self.needed(&columns.question)?;
        // A function's head is gone on from as it stands; any other question is prose.
        let question = match format.kind {
            TaskKind::HumanEval => question.as_str(),
            _ => question.trim(),
        };
        let starter = self.optional(columns.starter.as_ref())?.unwrap_or_default();
        let starter = match starter.trim_end() {
            "" => String::new(),
            starter => format!("\n{starter}"),
        };
        let prompt = format.prompt.render(&[
            ("question", question),
            ("starter", &starter),
            ("input_format", suite.input_format()),
            ("tests", suite.assertions()),
        ]);
        let solutions = self.solutions(columns.solution.as_ref())?;
        let targets = solutions.iter().map(|solution| {
            format.target.render(&[("solution", solution.trim_end()), ("answer", "")])
        });
        let mut targets = targets.take(format.solutions_per_query);
        let query = Query {
            id,
            prompt,
            gold_answer: serde_json::to_string(&suite).expect("tests are JSON"),
            gold_solution: targets.next(),
        };
        let more_solutions = targets.collect();
        Ok(Record { line: self.line(), query, more_solutions, suite: Some(suite) })
    }

    /// The solutions of a row: one as text, a list, or a list as text.
    fn solutions(&self, column: Option<&Column>) -> Result<Vec<String>, RecordError> {
        let Some(column) = column else { return Ok(Vec::new()) };
        let solutions = match self.row.get(&column.name) {
            Some(Value::Array(list)) => texts(list),
            _ => match self.optional(Some(column))? {
                None => Vec::new(),
                Some(text) => match serde_json::from_str(&text) {
                    Ok(Value::Array(list)) => texts(&list),
                    _ => vec![text],
                },
            },
        };
        let is_code = |solution: &String| !solution.trim().is_empty();
        // Lines that end as on Windows would teach a policy to end them so.
        let solutions = solutions.into_iter().map(|solution| solution.replace("\r\n", "\n"));
        Ok(solutions.filter(is_code).collect())
    }
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
