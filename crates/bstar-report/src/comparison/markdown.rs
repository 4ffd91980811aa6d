//! A comparison as Markdown: the counterparts of the paper's tables.

use super::{ComparisonReport, EntryReport, IterationReport, MetricReport};
use crate::table::{number, percent};
use bstar_core::goal::MissedGoal;
use bstar_core::statistics::{Estimate, FEWEST_SEEDS, PairedDifference};
use comfy_table::{ContentArrangement, Table, presets};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The metrics of an entry at one of its checkpoints.
type Metrics = fn(&EntryReport) -> &BTreeMap<String, MetricReport>;

/// What an iteration has one value of for each seed.
type BySeed = fn(&IterationReport) -> &Vec<f64>;

/// A metric that tables show.
pub(super) struct Column {
    /// Its name in events.
    pub(super) name: String,
    /// Its head.
    pub(super) head: String,
    /// Whether it is a share, shown in percent.
    pub(super) is_share: bool,
}

impl Column {
    fn share(name: String, head: String) -> Self {
        Self { name, head, is_share: true }
    }

    fn shown(&self, value: f64) -> String {
        if self.is_share { format!("{:.1}", 100.0 * value) } else { format!("{value:.3}") }
    }

    fn estimate(&self, estimate: &Estimate) -> String {
        let mean = self.shown(estimate.mean);
        match estimate.high {
            Some(high) => format!("{mean} ± {}", self.shown(high - estimate.mean)),
            None => mean,
        }
    }

    fn difference(&self, paired: Option<&PairedDifference>) -> String {
        let Some(paired) = paired else { return "–".into() };
        let sign = if paired.difference.mean > 0.0 { "+" } else { "" };
        sign.to_owned() + &self.estimate(&paired.difference)
    }
}

impl ComparisonReport {
    /// The metrics that tables and plots show, as far as any entry has them.
    pub(super) fn columns(&self) -> Vec<Column> {
        let task = &self.task;
        let mut columns = vec![
            Column::share(format!("eval/{task}/pass@1"), "greedy %".into()),
            Column::share(format!("eval/{task}/step_accuracy"), "steps %".into()),
            Column::share(format!("eval/{task}/false_positive_rate"), "false pos. %".into()),
        ];
        if let Some(k) =
            self.largest(|name| name.strip_prefix("explore/pass@")?.parse::<u32>().ok())
        {
            columns.push(Column::share(format!("explore/pass@{k}"), format!("Pass@{k} %")));
        }
        let of_two = |text: &str| {
            let (k, s) = text.split_once('-')?;
            Some((k.parse::<u32>().ok()?, s.parse::<u32>().ok()?))
        };
        if let Some((k, s)) = self.largest(|name| of_two(name.strip_prefix("explore/pass@")?)) {
            columns.push(Column::share(format!("explore/pass@{k}-{s}"), format!("Pass@{k}-{s} %")));
        }
        columns.push(Column {
            name: "explore/diversity".into(),
            head: "diversity".into(),
            is_share: false,
        });
        if let Some((k, s)) = self.largest(|name| of_two(name.strip_prefix("exploit/reward@")?)) {
            let (name, head) = (format!("exploit/reward@{k}-{s}"), format!("Reward@{k}-{s} %"));
            columns.push(Column::share(name, head));
        }
        let known = |column: &Column| {
            self.entries.iter().any(|entry| entry.metrics.contains_key(&column.name))
        };
        columns.into_iter().filter(known).collect()
    }

    fn largest<T: Ord>(&self, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let names = self.entries.iter().flat_map(|entry| entry.metrics.keys());
        names.filter_map(|name| parse(name)).max()
    }

    /// Every table.
    pub fn markdown(&self) -> String {
        let seeds = self.seeds.len();
        let mut text = format!("# {}\n\n", self.title);
        if self.entries.iter().all(|entry| entry.seeds.is_empty()) {
            text += "No run has finished, so there is nothing to compare yet.\n\n";
            return text + &self.told_failures();
        }
        let reference = &self.reference;
        let _ = writeln!(
            text,
            "Task {}, {seeds} seed{}, compared with {reference}. {}\n",
            self.task,
            if seeds == 1 { "" } else { "s" },
            self.method
        );
        text += &self.told_failures();
        let last: Metrics = |entry| &entry.metrics;
        let sections = [
            ("After the last iteration", self.results(last)),
            ("Differences to the reference", self.differences(last)),
            ("Grids of fixed keys", self.grids()),
            ("At the checkpoints that validation chose", self.chosen_checkpoints()),
            ("What a run generated", self.spent()),
            ("What was chosen", self.choices()),
            ("Greedy accuracy by iteration, %", self.by_iteration()),
        ];
        for (head, table) in sections.iter().filter(|(_, table)| !table.is_empty()) {
            let _ = writeln!(text, "## {head}\n\n{table}");
        }
        text
    }

    fn told_failures(&self) -> String {
        let told = |failure: &super::Failure| {
            let Failed { entry, seed, problem } = Failed::of(failure);
            format!("**{entry}, seed {seed} failed:** {problem}\n\n")
        };
        self.failures.iter().map(told).collect()
    }

    /// Results and differences at the checkpoints that validation chose.
    fn chosen_checkpoints(&self) -> String {
        if self.entries.iter().all(|entry| entry.selected.is_empty()) {
            return String::new();
        }
        let selected: Metrics = |entry| &entry.selected;
        let row = |entry: &EntryReport| {
            let chosen = entry.selected_iterations.values().map(u32::to_string);
            vec![entry.name.clone(), chosen.collect::<Vec<_>>().join(", ")]
        };
        let heads = ["entry".to_owned(), "iteration chosen, by seed".into()];
        let chosen = render(heads.to_vec(), self.entries.iter().map(row).collect());
        [self.results(selected), self.differences(selected), chosen].join("\n")
    }

    /// For entries that vary two keys, accuracy with one key down and the other across.
    fn grids(&self) -> String {
        let Some(column) = self.columns().into_iter().next() else { return String::new() };
        let mut groups: Vec<&String> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.varied.len() == 2) {
            if !groups.contains(&&entry.group) {
                groups.push(&entry.group);
            }
        }
        let grid = |group: &&String| {
            let is_in = |e: &&EntryReport| e.group == **group && e.varied.len() == 2;
            let entries = self.entries.iter().filter(is_in);
            let entries: Vec<&EntryReport> = entries.collect();
            let values = |key: usize| {
                let mut values: Vec<&String> = Vec::new();
                for entry in &entries {
                    if !values.contains(&&entry.varied[key].1) {
                        values.push(&entry.varied[key].1);
                    }
                }
                values
            };
            let cell = |down: &String, across: &String| {
                let wanted = |e: &&&EntryReport| e.varied[0].1 == *down && e.varied[1].1 == *across;
                let metric = entries.iter().find(wanted).and_then(|e| e.metrics.get(&column.name));
                metric.map_or_else(|| "–".into(), |metric| column.estimate(&metric.estimate))
            };
            let [(down, _), (across, _)] = &entries[0].varied[..] else { return String::new() };
            let corner = format!("{group}, {}: {down} by {across}", column.head);
            let heads = values(1).into_iter().cloned();
            let row = |value: &String| {
                let cells = values(1).into_iter().map(|across| cell(value, across));
                std::iter::once(value.clone()).chain(cells).collect()
            };
            let rows = values(0).into_iter().map(row).collect();
            let table = render(std::iter::once(corner).chain(heads).collect(), rows);
            let shown = entries.iter().filter_map(|entry| entry.metrics.get(&column.name));
            table + few_seeds(shown.map(|metric| &metric.estimate))
        };
        groups.iter().map(grid).collect::<Vec<_>>().join("\n")
    }

    fn results(&self, metrics: Metrics) -> String {
        let columns = self.columns();
        let heads = columns.iter().map(|column| column.head.clone());
        let heads = ["entry".to_owned(), "seeds".into()].into_iter().chain(heads);
        let row = |entry: &EntryReport| {
            let cells = columns.iter().map(|column| {
                let metric = metrics(entry).get(&column.name);
                metric.map_or_else(|| "–".into(), |metric| column.estimate(&metric.estimate))
            });
            let seeds = format!("{}/{}", entry.seeds.len(), self.seeds.len());
            [entry.name.clone(), seeds].into_iter().chain(cells).collect()
        };
        let table = render(heads.collect(), self.entries.iter().map(row).collect());
        table + few_seeds(self.shown(&columns, metrics).map(|metric| &metric.estimate))
    }

    fn differences(&self, metrics: Metrics) -> String {
        let columns = self.columns();
        let Some(first) = columns.first() else { return String::new() };
        let heads = columns.iter().map(|column| format!("Δ {}", column.head));
        let own = self.has_own_references();
        let names = if own { vec!["entry", "compared with"] } else { vec!["entry"] };
        let tests = ["p (seeds)", "p (queries)"].map(|test| format!("{test} of {}", first.head));
        let mut heads: Vec<String> =
            names.iter().map(|name| (*name).to_owned()).chain(heads).collect();
        let place = names.len() + 1;
        drop(heads.splice(place..place, tests));
        let row = |(entry, reference): (&EntryReport, &String)| {
            let paired = |column: &Column| metrics(entry).get(&column.name)?.against(reference);
            let names = [entry.name.clone(), reference.clone()].into_iter().take(names.len());
            let cells = columns.iter().map(|column| column.difference(paired(column)));
            let mut cells: Vec<String> = names.chain(cells).collect();
            let tested = paired(first);
            let tests = [tested.and_then(|d| d.p_seeds), tested.and_then(|d| d.p_queries)];
            drop(cells.splice(place..place, tests.map(|p| number(p, 4))));
            cells
        };
        let pairs = self.entries.iter().flat_map(|e| e.references.iter().map(move |r| (e, r)));
        let rows: Vec<_> = pairs.map(row).collect();
        if rows.is_empty() {
            return String::new();
        }
        let all = self.shown(&columns, metrics).flat_map(|metric| &metric.differences);
        render(heads, rows) + few_seeds(all.map(|against| &against.paired.difference))
    }

    /// The metrics of all entries that stand in these columns.
    fn shown<'a>(
        &'a self,
        columns: &'a [Column],
        metrics: Metrics,
    ) -> impl Iterator<Item = &'a MetricReport> {
        let of = move |entry: &'a EntryReport| {
            columns.iter().filter_map(move |column| metrics(entry).get(&column.name))
        };
        self.entries.iter().flat_map(of)
    }

    fn spent(&self) -> String {
        let reference = self.entries.iter().find(|entry| entry.name == self.reference);
        let measure = reference.map_or([0.0; 2], |entry| entry.spent.generated);
        let heads = [
            "entry",
            "budget",
            "queries per iteration",
            "probe",
            "draw",
            "labels",
            "responses in all",
            "tokens in all",
            "tokens to reference",
            "evaluation tokens",
            "steps",
            "supervised steps",
        ];
        let row = |entry: &EntryReport| {
            let spent = &entry.spent;
            let whole = |value: f64| format!("{value:.0}");
            let ratio = spent.generated[1] / measure[1];
            vec![
                entry.name.clone(),
                entry.budget.clone(),
                whole(spent.queries),
                whole(spent.probe[0]),
                whole(spent.draw[0]),
                whole(spent.labels[0]),
                whole(spent.generated[0]),
                whole(spent.generated[1]),
                number(Some(ratio).filter(|ratio| ratio.is_finite()), 3),
                whole(spent.evaluation[1]),
                whole(spent.steps),
                whole(spent.supervised_steps)
                    + if entry.missed_goals.is_empty() { "" } else { " \\*" },
            ]
        };
        let complete = self.entries.iter().filter(|entry| !entry.seeds.is_empty());
        let table = render(heads.map(str::to_owned).to_vec(), complete.map(row).collect());
        table + &self.missed_goals()
    }

    /// Every P_0 that did not reach its goal, with the entries that start from it.
    fn missed_goals(&self) -> String {
        let mut missed: Vec<((u64, MissedGoal), Vec<&str>)> = Vec::new();
        for entry in &self.entries {
            for (seed, goal) in &entry.missed_goals {
                match missed.iter_mut().find(|(known, _)| *known == (*seed, *goal)) {
                    Some((_, names)) => names.push(&entry.name),
                    None => missed.push(((*seed, *goal), vec![&entry.name])),
                }
            }
        }
        missed.sort_by_key(|((seed, _), _)| *seed);
        let line = |((seed, goal), names): &((u64, MissedGoal), Vec<&str>)| {
            format!("- seed {seed}: {goal} ({})\n", names.join("; "))
        };
        let lines: String = missed.iter().map(line).collect();
        if lines.is_empty() {
            return lines;
        }
        format!("\n\\* P_0 missed its goal (`supervised.stop_at_accuracy`):\n\n{lines}")
    }

    /// Temperature, threshold and balance score by iteration, of entries that chose.
    fn choices(&self) -> String {
        let chooses = |entry: &&EntryReport| {
            entry.iterations.iter().any(|iteration| !iteration.balance_scores.is_empty())
        };
        let entries: Vec<&EntryReport> = self.entries.iter().filter(chooses).collect();
        let most = entries.iter().flat_map(|entry| &entry.iterations).map(|i| i.iteration).max();
        let Some(most) = most else { return String::new() };
        let numbers = (1..=most).map(|iteration| iteration.to_string());
        let heads = ["entry".to_owned(), "mean over seeds of".into()].into_iter().chain(numbers);
        let kinds: [(&str, usize, BySeed); 3] = [
            ("t", 2, |iteration| &iteration.temperatures),
            ("τ", 2, |iteration| &iteration.thresholds),
            ("balance score", 3, |iteration| &iteration.balance_scores),
        ];
        let mut rows = Vec::new();
        for entry in entries {
            for (kind, decimals, values) in kinds {
                let cell = |iteration: u32| {
                    let found = entry.iterations.iter().find(|i| i.iteration == iteration);
                    number(found.and_then(|found| mean(values(found))), decimals)
                };
                let names = [entry.name.clone(), kind.to_owned()];
                rows.push(names.into_iter().chain((1..=most).map(cell)).collect());
            }
        }
        render(heads.collect(), rows)
    }

    fn by_iteration(&self) -> String {
        let name = format!("eval/{}/pass@1", self.task);
        let all = self.entries.iter().flat_map(|entry| &entry.iterations);
        let Some(most) = all.map(|iteration| iteration.iteration).max() else {
            return String::new();
        };
        let numbers = (1..=most).map(|iteration| iteration.to_string());
        let heads = ["entry".to_owned(), "P_0".into()].into_iter().chain(numbers);
        let row = |entry: &EntryReport| {
            let cell = |iteration: u32| {
                let found = entry.iterations.iter().find(|i| i.iteration == iteration);
                percent(found.and_then(|found| Some(found.metrics.get(&name)?.mean)))
            };
            std::iter::once(entry.name.clone()).chain((0..=most).map(cell)).collect()
        };
        render(heads.collect(), self.entries.iter().map(row).collect())
    }
}

/// The words of a failure.
struct Failed<'a> {
    entry: &'a str,
    seed: u64,
    problem: String,
}

impl<'a> Failed<'a> {
    fn of(failure: &'a super::Failure) -> Self {
        let problem = failure.problem.lines().collect::<Vec<_>>().join(" ");
        Self { entry: &failure.entry, seed: failure.seed, problem }
    }
}

/// A line under a table in which an interval comes from fewer seeds than can tell of other seeds.
fn few_seeds<'a>(mut shown: impl Iterator<Item = &'a Estimate>) -> &'static str {
    let is_of_queries = |of: &Estimate| of.high.is_some() && of.seeds < FEWEST_SEEDS;
    if shown.any(is_of_queries) {
        "\nWith fewer than three seeds an interval is over queries only: it does not tell how other \
         seeds would come out.\n"
    } else {
        ""
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn render(heads: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for row in rows {
        // In Markdown a bar ends a cell.
        table.add_row(row.into_iter().map(|cell| cell.replace('|', "\\|")));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
