//! The figures of a comparison: what is measured against iterations ([`super::lines`]), and differences
//! to the reference.
//!
//! One description of a figure is drawn twice, as SVG and as PNG. The PNG carries a font of its own
//! (DejaVu Sans), so that it looks alike on every machine.

use super::lines::{Line, without_outliers};
use super::{Against, ComparisonReport, EntryReport};
use bstar_core::statistics::Estimate;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, BitMapBackend, Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, DrawingArea,
    DrawingAreaErrorKind, DrawingBackend, IntoDrawingArea as _, IntoFont as _, LineSeries,
    RGBColor, SVGBackend, Text, WHITE,
};
use plotters::style::{FontStyle, register_font};
use std::ops::Range;
use thiserror::Error;

/// Size in pixels at scale 1.
const SIZE: (u32, u32) = (960, 540);
/// Of a figure of intervals: names on the left, then the intervals; numbers take the rest.
const NAMES_WIDTH: i32 = 300;
const INTERVALS_WIDTH: i32 = 550;
/// Intervals up to which long names have several lines.
const MOST_WRAPPED: f64 = 14.0;
/// A PNG has so many pixels for one of the SVG.
const PNG_SCALE: i32 = 2;
/// Letters of a line of a label.
const LABEL_LETTERS: usize = 38;

/// Colours that people with any colour vision can tell apart (Okabe and Ito).
pub(super) const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
    RGBColor(150, 120, 60),
];
/// Siblings of a large grid are drawn alike.
pub(super) const MUTED: RGBColor = RGBColor(170, 170, 170);
/// Entries that may differ in nothing but varied keys before they are drawn alike.
const MOST_SIBLINGS: usize = 6;

/// A figure could not be drawn.
#[derive(Debug, Error)]
#[error("cannot draw {name}: {problem}")]
pub struct PlotError {
    name: String,
    problem: String,
}

/// A figure in both forms.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Name of its files, without an ending.
    pub name: String,
    /// As SVG.
    pub svg: String,
    /// As PNG.
    pub png: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Content {
    /// Against iterations.
    Lines(Vec<Line>),
    /// One interval below the other, around zero.
    Intervals(Vec<(String, Estimate)>),
}

/// A chart of numbers on a backend.
pub(super) type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A figure before it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    name: String,
    /// Above it.
    pub(super) title: String,
    /// Of the values.
    pub(super) unit: String,
    /// What values are multiplied with for display.
    factor: f64,
    content: Content,
}

impl ComparisonReport {
    /// Every figure for which there is something to show.
    pub fn plots(&self) -> Result<Vec<Plot>, PlotError> {
        // An error means that the font is none, which drawing will tell.
        let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
        self.figures().iter().map(Figure::plot).collect()
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for column in self.columns() {
            let lines = self.lines(&column.name);
            let head = column.head.trim_end_matches(" %");
            let unit = if column.is_share { "%" } else { "" };
            figures.push(Figure {
                name: file_name(head),
                title: format!("{}: {head}", self.title),
                unit: unit.into(),
                factor: if column.is_share { 100.0 } else { 1.0 },
                content: Content::Lines(lines),
            });
        }
        let chosen = [("balance_score", "balance score"), ("t", "chosen t"), ("τ", "chosen τ")];
        for (name, head) in chosen {
            let mut lines = self.lines(name);
            if name != "balance_score" {
                lines.retain(|line| self.chooses(&line.name));
            }
            figures.push(Figure {
                name: file_name(head),
                title: format!("{}: {head}", self.title),
                unit: String::new(),
                factor: 1.0,
                content: Content::Lines(lines),
            });
        }
        figures.retain(|figure| match &figure.content {
            Content::Lines(lines) => lines.iter().any(|line| line.points.len() > 1),
            Content::Intervals(_) => true,
        });
        figures.extend(self.differences_figure());
        figures
    }

    /// Whether an entry chose its configuration.
    fn chooses(&self, name: &str) -> bool {
        let chose =
            |entry: &EntryReport| entry.iterations.iter().any(|i| !i.balance_scores.is_empty());
        self.entries.iter().any(|entry| entry.name == name && chose(entry))
    }

    fn lines(&self, name: &str) -> Vec<Line> {
        let siblings = |entry: &EntryReport| {
            self.entries.iter().filter(|other| other.group == entry.group).count()
        };
        let line = |entry: &EntryReport| Line {
            name: entry.name.clone(),
            points: entry
                .iterations
                .iter()
                .filter_map(|i| {
                    let found = i.all().into_iter().find(|(known, _)| known == name);
                    Some((i.iteration, found?.1))
                })
                .collect(),
            muted: entry.name != self.reference && siblings(entry) > MOST_SIBLINGS,
        };
        let mut lines: Vec<Line> = self.entries.iter().map(line).collect();
        lines.retain(|line| !line.points.is_empty());
        // What is drawn last lies on top.
        lines.sort_by_key(|line| !line.muted);
        lines
    }

    fn differences_figure(&self) -> Option<Figure> {
        let column = self.columns().into_iter().next()?;
        let own = self.has_own_references();
        let of_entry = |entry: &EntryReport| -> Vec<(String, Estimate)> {
            let Some(metric) = entry.metrics.get(&column.name) else { return Vec::new() };
            let interval = |against: &Against| {
                let name = if own {
                    format!("{} − {}", entry.name, against.reference)
                } else {
                    entry.name.clone()
                };
                (name, against.paired.difference)
            };
            metric.differences.iter().map(interval).collect()
        };
        let intervals: Vec<_> = self.entries.iter().flat_map(of_entry).collect();
        let head = column.head.trim_end_matches(" %").to_owned();
        (!intervals.is_empty()).then(|| Figure {
            name: "differences".into(),
            title: if own {
                format!("{head}: differences of pairs")
            } else {
                format!("{head}: difference to {}", self.reference)
            },
            unit: "points".into(),
            factor: 100.0,
            content: Content::Intervals(intervals),
        })
    }
}

/// A head as the name of a file.
fn file_name(head: &str) -> String {
    let letter = |letter: char| match letter {
        'τ' => "tau".to_owned(),
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase().to_string(),
        _ => "-".to_owned(),
    };
    let name: String = head.chars().map(letter).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

impl Figure {
    fn plot(&self) -> Result<Plot, PlotError> {
        let wrong = |problem: String| PlotError { name: self.name.clone(), problem };
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&root, 1).map_err(|error| wrong(error.to_string()))?;
            root.present().map_err(|error| wrong(error.to_string()))?;
        }
        let times = PNG_SCALE.unsigned_abs();
        let (width, height) = (SIZE.0 * times, SIZE.1 * times);
        let mut pixels = vec![0; 3 * (width * height) as usize];
        {
            let backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
            let root = backend.into_drawing_area();
            self.draw(&root, PNG_SCALE).map_err(|error| wrong(error.to_string()))?;
            root.present().map_err(|error| wrong(error.to_string()))?;
        }
        let png = encode(&pixels, width, height).map_err(|error| wrong(error.to_string()))?;
        Ok(Plot { name: self.name.clone(), svg, png })
    }

    fn draw<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: i32,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        root.fill(&WHITE)?;
        match &self.content {
            Content::Lines(lines) => self.draw_lines(root, scale, lines),
            Content::Intervals(intervals) => self.draw_intervals(root, scale, intervals),
        }
    }

    fn draw_intervals<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: i32,
        intervals: &[(String, Estimate)],
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let (labels, rest) = root.split_horizontally(NAMES_WIDTH * scale);
        let (area, _) = rest.split_horizontally(INTERVALS_WIDTH * scale);
        let values = intervals.iter().map(|(_, e)| self.scaled(e).to_vec());
        let widths =
            range(without_outliers(&values.collect::<Vec<_>>()).concat().into_iter().chain([0.0]));
        let count = intervals.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 16 * scale).into_font())
            .margin(10 * scale)
            .x_label_area_size(38 * scale)
            .build_cartesian_2d(widths.clone(), -0.5..count - 0.5)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc(self.unit.as_str())
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .label_style(("sans-serif", 13 * scale).into_font())
            .axis_desc_style(("sans-serif", 14 * scale).into_font())
            .draw()?;
        let zero = [(0.0, -0.5), (0.0, count - 0.5)];
        chart.draw_series(LineSeries::new(zero, BLACK.stroke_width(scale.unsigned_abs())))?;
        for (place, (name, estimate)) in intervals.iter().enumerate() {
            let row = (count - 1.0 - place as f64, &widths);
            draw_interval(&mut chart, row, self.scaled(estimate), scale)?;
            let (_, at) = chart.backend_coord(&(0.0, row.0));
            let font = ("sans-serif", 13 * scale).into_font();
            let parts = if count > MOST_WRAPPED { vec![cut(name)] } else { wrapped(name) };
            let above = 7 * i32::try_from(parts.len()).unwrap_or(1);
            for (line, part) in (0_i32..).zip(parts) {
                let at = (10 * scale, at + (14 * line - above) * scale);
                labels.draw(&Text::new(part, at, font.clone()))?;
            }
            let number = self.with_interval(estimate, &widths);
            let at = ((NAMES_WIDTH + INTERVALS_WIDTH + 6) * scale, at - 7 * scale);
            root.draw(&Text::new(number, at, font.clone()))?;
        }
        Ok(())
    }

    /// A value as it is told beside a line.
    pub(super) fn shown(&self, value: f64) -> String {
        if self.factor > 1.0 { format!("{value:.1}") } else { format!("{value:.2}") }
    }

    /// A value with its interval, and where it lies if that is not within `widths`.
    fn with_interval(&self, estimate: &Estimate, widths: &Range<f64>) -> String {
        let [mean, _, high] = self.scaled(estimate);
        let sign = if mean > 0.0 { "+" } else { "" };
        let outside = match mean {
            mean if mean < widths.start => "← ",
            mean if mean > widths.end => "→ ",
            _ => "",
        };
        let width = match estimate.high {
            Some(_) => format!(" ± {}", self.shown(high - mean)),
            None => String::new(),
        };
        format!("{outside}{sign}{}{width}", self.shown(mean))
    }

    /// Mean, low and high as they are shown.
    pub(super) fn scaled(&self, estimate: &Estimate) -> [f64; 3] {
        let Estimate { mean, low, high, .. } = *estimate;
        [mean, low.unwrap_or(mean), high.unwrap_or(mean)].map(|value| self.factor * value)
    }
}

/// An interval with its mean, cut where it leaves the figure.
fn draw_interval<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    (height, widths): (f64, &Range<f64>),
    [mean, low, high]: [f64; 3],
    scale: i32,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let [low, high] = [low, high].map(|end| end.clamp(widths.start, widths.end));
    if low < high {
        let style = COLORS[0].stroke_width(2 * scale.unsigned_abs());
        chart.draw_series(LineSeries::new([(low, height), (high, height)], style))?;
    }
    if widths.contains(&mean) {
        let dot = Circle::new((mean, height), 5 * scale, COLORS[0].filled());
        chart.draw_series(std::iter::once(dot))?;
    }
    Ok(())
}

/// The beginning of a name, as much as one line holds.
fn cut(name: &str) -> String {
    name.chars().take(LABEL_LETTERS + 4).collect()
}

/// A name in lines of a legible length.
pub(super) fn wrapped(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in name.split(' ') {
        let line = lines.last_mut().expect("one at least");
        if !line.is_empty() && line.chars().count() + word.chars().count() >= LABEL_LETTERS {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines
}

/// A whole number; nothing for places between two.
pub(super) fn whole(x: f64) -> String {
    if (x - x.round()).abs() < 0.01 { format!("{x:.0}") } else { String::new() }
}

/// A range that holds all values, with some air.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let air = (0.06 * (high - low)).max(1e-3);
    low - air..high + air
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
