//! What a person sees while a model is fetched: a bar on a terminal, a line now and then elsewhere.

use crate::output::Notes;
use bstar_hub::{ModelName, Watcher};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Tells of downloads on stderr.
pub(crate) struct Downloads {
    notes: Notes,
    terminal: bool,
    transfer: Option<Transfer>,
}

struct Transfer {
    label: String,
    bytes: u64,
    came: u64,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

/// Time between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

impl Downloads {
    /// A view on stderr.
    pub(crate) fn new(notes: Notes) -> Self {
        Self { notes, terminal: std::io::stderr().is_terminal(), transfer: None }
    }
}

impl Watcher for Downloads {
    fn begin(&mut self, name: &ModelName, files: usize, bytes: u64) {
        let label = format!("fetching {name}");
        let plural = if files == 1 { "" } else { "s" };
        self.notes.tell(&format!("{label}: {files} file{plural}, {}", HumanBytes(bytes)));
        let bar = (self.terminal && !self.notes.quiet).then(|| bar(label.clone(), bytes));
        let now = Instant::now();
        self.transfer = Some(Transfer { label, bytes, came: 0, began: now, told: now, bar });
    }

    fn advance(&mut self, _: &str, bytes: u64) {
        let Some(transfer) = &mut self.transfer else { return };
        transfer.came += bytes;
        if let Some(bar) = &transfer.bar {
            bar.set_position(transfer.came);
        } else if transfer.told.elapsed() >= BETWEEN_LINES {
            transfer.told = Instant::now();
            self.notes.tell(&transfer.so_far());
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.transfer.take().and_then(|transfer| transfer.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Transfer {
    fn so_far(&self) -> String {
        let rate = self.came as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        let seconds = self.bytes.saturating_sub(self.came) as f64 / rate.max(1e-9);
        let left = Duration::try_from_secs_f64(seconds)
            .map_or_else(|_| "unknown time".into(), |left| HumanDuration(left).to_string());
        let (came, bytes) = (HumanBytes(self.came), HumanBytes(self.bytes));
        format!("{}: {came} of {bytes}, {left} left", self.label)
    }
}

fn bar(label: String, bytes: u64) -> ProgressBar {
    let style = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is well formed");
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar.set_message(label);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_came_and_what_is_left() {
        let began = Instant::now().checked_sub(Duration::from_secs(10)).expect("a running clock");
        let transfer = Transfer {
            label: "fetching a/b".into(),
            bytes: 4 << 30,
            came: 1 << 30,
            began,
            told: began,
            bar: None,
        };
        assert_eq!(transfer.so_far(), "fetching a/b: 1.00 GiB of 4.00 GiB, 30 seconds left");
    }
}
