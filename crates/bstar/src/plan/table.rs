//! A plan as text: what it rests on, what it takes, on what.

use super::{Plan, PurposePlan};
use bstar_core::plan::{Span, Tokens};
use bstar_report::{Align, Table};
use std::fmt::Write as _;

/// The whole plan.
pub(crate) fn render(plan: &Plan) -> String {
    let mut out = facts(plan);
    out.push('\n');
    out.push_str(&work(plan));
    out.push('\n');
    out.push_str(&foot(plan));
    out
}

fn facts(plan: &Plan) -> String {
    let mut table = Table::new(&[
        ("this plan rests on", Align::Left),
        ("", Align::Right),
        ("", Align::Left),
        ("how", Align::Left),
    ]);
    for fact in &plan.facts {
        let (what, how) = (fact.what.clone(), fact.how.clone());
        table.row([what, quantity(fact.value), fact.source.name().to_owned(), how]);
    }
    table.render()
}

fn work(plan: &Plan) -> String {
    let mut table = Table::new(&[
        ("for", Align::Left),
        ("responses", Align::Right),
        ("prompt tokens", Align::Right),
        ("generated", Align::Right),
        ("steps", Align::Right),
        ("trained tokens", Align::Right),
        ("time", Align::Right),
    ]);
    for row in &plan.purposes {
        table.row(cells(row.purpose.name(), row));
    }
    let total = PurposePlan {
        purpose: bstar_core::plan::Purpose::Draw,
        responses: plan.purposes.iter().map(|row| row.responses).sum(),
        steps: plan.purposes.iter().map(|row| row.steps).sum(),
        tokens: plan.tokens(),
        seconds: plan.seconds(),
    };
    table.row(cells("in all", &total));
    table.render()
}

fn cells(name: &str, row: &PurposePlan) -> [String; 7] {
    let Tokens { prompt, generated, trained, .. } = row.tokens;
    [
        name.to_owned(),
        span(row.responses, quantity),
        span(prompt, quantity),
        span(generated, quantity),
        span(row.steps, quantity),
        span(trained, quantity),
        span(row.seconds, duration),
    ]
}

fn foot(plan: &Plan) -> String {
    let disk = &plan.disk;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "{name:<18}{text}").expect("text");
    };
    line(
        "disk",
        format!(
            "{}: checkpoints {} (of them optimizer {}), rollouts {}, reward models {}, events {}",
            span(disk.total(), bytes),
            bytes(disk.checkpoints),
            bytes(disk.optimizer),
            span(disk.rollouts, bytes),
            bytes(disk.reward_models),
            span(disk.events, bytes),
        ),
    );
    if disk.checkpoints_at_once > disk.checkpoints {
        let most = bytes(disk.checkpoints_at_once);
        line("", format!("checkpoints take up to {most} while the run goes on"));
    }
    line("memory", format!("about {} at the peak", bytes(plan.memory_bytes)));
    line("time", span(plan.seconds(), duration));
    line("accelerator hours", span(plan.accelerator_hours, |hours| format!("{hours:.3}")));
    if let Some(price) = plan.price {
        line("price", span(price, |price| format!("{price:.2}")));
    }
    out
}

/// A number, and its bounds where it is not known.
pub(crate) fn span(span: Span, show: impl Fn(f64) -> String) -> String {
    if span.most == 0.0 {
        return "–".into();
    }
    let expected = show(span.expected);
    if span.is_exact() {
        return expected;
    }
    format!("{expected} ({} to {})", show(span.least), show(span.most))
}

/// A count or a rate: all digits of small ones, three of large ones.
pub(crate) fn quantity(value: f64) -> String {
    match value {
        v if v >= 1e12 => format!("{:.3} T", v / 1e12),
        v if v >= 1e9 => format!("{:.3} G", v / 1e9),
        v if v >= 1e6 => format!("{:.3} M", v / 1e6),
        v if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

/// Bytes in units of 1000, as disks are sold.
pub(crate) fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e12 => format!("{:.2} TB", v / 1e12),
        v if v >= 1e9 => format!("{:.2} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.1} MB", v / 1e6),
        v => format!("{:.0} kB", v / 1e3),
    }
}

/// Seconds as a time.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 48.0 * 3600.0 => format!("{:.1} days", s / 86_400.0),
        s if s >= 2.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s if s >= 120.0 => format!("{:.1} min", s / 60.0),
        s => format!("{s:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_bounds_are_told() {
        assert_eq!(quantity(28_800.0), "28800");
        assert_eq!(quantity(1_474_000.0), "1.474 M");
        assert_eq!(quantity(0.25), "0.25");
        assert_eq!(bytes(1_798_000.0), "1.8 MB");
        assert_eq!(duration(90.0), "90.0 s");
        assert_eq!(duration(7200.0), "2.0 h");
        assert_eq!(span(Span::exact(750), quantity), "750");
        let open = Span { least: 25.0, expected: 750.0, most: 1500.0 };
        assert_eq!(span(open, quantity), "750 (25 to 1500)");
        assert_eq!(span(Span::default(), quantity), "–");
    }
}
