//! The figures of a comparison: what is measured against iterations, and differences to the reference.
//!
//! One description of a figure is drawn twice, as SVG and as PNG. The PNG carries a font of its own
//! (DejaVu Sans), so that it looks alike on every machine.

use super::{ComparisonReport, EntryReport};
use bstar_core::statistics::Estimate;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, BitMapBackend, Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, Cross,
    DrawingArea, DrawingAreaErrorKind, DrawingBackend, IntoDrawingArea as _, IntoFont as _,
    LineSeries, PathElement, Polygon, RGBColor, SVGBackend, Text, TriangleMarker, WHITE,
};
use plotters::style::{FontStyle, register_font};
use std::ops::Range;
use thiserror::Error;

/// Size in pixels at scale 1.
const SIZE: (u32, u32) = (960, 540);
/// Width of a figure without its legend.
const PLOT_WIDTH: i32 = 660;
/// A PNG has so many pixels for one of the SVG.
const PNG_SCALE: i32 = 2;
/// Letters of a line of the legend.
const LEGEND_LETTERS: usize = 34;

/// Colours that people with any colour vision can tell apart (Okabe and Ito).
const COLORS: [RGBColor; 8] = [
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
const MUTED: RGBColor = RGBColor(170, 170, 170);
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

/// One entry in a figure of lines.
#[derive(Clone, Debug)]
struct Line {
    name: String,
    /// Place on the horizontal axis, with mean and interval.
    points: Vec<(u32, Estimate)>,
    muted: bool,
}

#[derive(Clone, Debug)]
enum Content {
    /// Against iterations.
    Lines(Vec<Line>),
    /// One interval below the other, around zero.
    Intervals(Vec<(String, Estimate)>),
}

#[derive(Clone, Debug)]
struct Figure {
    name: String,
    title: String,
    unit: String,
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
        let interval = |entry: &EntryReport| {
            let difference = entry.metrics.get(&column.name)?.difference?;
            Some((entry.name.clone(), difference.difference))
        };
        let intervals: Vec<_> = self.entries.iter().filter_map(interval).collect();
        let head = column.head.trim_end_matches(" %").to_owned();
        (!intervals.is_empty()).then(|| Figure {
            name: "differences".into(),
            title: format!("{head}: difference to {}", self.reference),
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

    fn draw_lines<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: i32,
        lines: &[Line],
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let (area, legend) = root.split_horizontally(PLOT_WIDTH * scale);
        let scaled = |estimate: &Estimate| self.scaled(estimate);
        let points = || lines.iter().flat_map(|line| &line.points);
        let last = points().map(|(iteration, _)| *iteration).max().unwrap_or(0).max(1);
        let heights = range(points().flat_map(|(_, estimate)| scaled(estimate)));
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 17 * scale).into_font())
            .margin(10 * scale)
            .x_label_area_size(38 * scale)
            .y_label_area_size(58 * scale)
            .build_cartesian_2d(-0.1..f64::from(last) + 0.1, heights)?;
        chart
            .configure_mesh()
            .x_desc("iteration")
            .y_desc(self.unit.as_str())
            .x_labels(last as usize + 1)
            .x_label_formatter(&|x| whole(*x))
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .label_style(("sans-serif", 13 * scale).into_font())
            .axis_desc_style(("sans-serif", 14 * scale).into_font())
            .draw()?;
        let coloured = lines.iter().filter(|line| line.muted).count();
        for (place, line) in lines.iter().enumerate() {
            let style = place.checked_sub(coloured);
            self.draw_line(&mut chart, line, style, scale)?;
        }
        draw_legend(&legend, lines, scale)
    }

    fn draw_line<B: DrawingBackend>(
        &self,
        chart: &mut ChartContext<'_, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
        line: &Line,
        style: Option<usize>,
        scale: i32,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let color = style.map_or(MUTED, |style| COLORS[style % COLORS.len()]);
        let values: Vec<(f64, [f64; 3])> =
            line.points.iter().map(|(x, e)| (f64::from(*x), self.scaled(e))).collect();
        if style.is_some() && values.len() > 1 {
            let lower = values.iter().map(|(x, [_, low, _])| (*x, *low));
            let upper = values.iter().rev().map(|(x, [_, _, high])| (*x, *high));
            let band: Vec<(f64, f64)> = lower.chain(upper).collect();
            chart.draw_series(std::iter::once(Polygon::new(band, color.mix(0.1).filled())))?;
        }
        let means: Vec<(f64, f64)> = values.iter().map(|(x, [mean, ..])| (*x, *mean)).collect();
        let width = if style.is_some() { 2 * scale } else { scale };
        chart.draw_series(LineSeries::new(
            means.clone(),
            color.stroke_width(width.unsigned_abs()),
        ))?;
        let Some(style) = style else { return Ok(()) };
        let (size, fill) = (4 * scale, color.filled());
        match style / COLORS.len() {
            0 => chart.draw_series(means.iter().map(|at| Circle::new(*at, size, fill)))?,
            1 => chart.draw_series(means.iter().map(|at| TriangleMarker::new(*at, size, fill)))?,
            _ => chart.draw_series(means.iter().map(|at| Cross::new(*at, size, color)))?,
        };
        Ok(())
    }

    fn draw_intervals<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: i32,
        intervals: &[(String, Estimate)],
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let (labels, area) = root.split_horizontally(300 * scale);
        let values = intervals.iter().flat_map(|(_, estimate)| self.scaled(estimate));
        let widths = range(values.chain([0.0]));
        let count = intervals.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 16 * scale).into_font())
            .margin(10 * scale)
            .x_label_area_size(38 * scale)
            .build_cartesian_2d(widths, -0.5..count - 0.5)?;
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
        let font = ("sans-serif", 13 * scale).into_font();
        for (place, (name, estimate)) in intervals.iter().enumerate() {
            let height = count - 1.0 - place as f64;
            let [mean, low, high] = self.scaled(estimate);
            let style = COLORS[0].stroke_width(2 * scale.unsigned_abs());
            chart.draw_series(LineSeries::new([(low, height), (high, height)], style))?;
            let dot = Circle::new((mean, height), 5 * scale, COLORS[0].filled());
            chart.draw_series(std::iter::once(dot))?;
            let (_, at) = chart.backend_coord(&(mean, height));
            let shown: String = name.chars().take(LEGEND_LETTERS + 6).collect();
            let at = (10 * scale, at - 7 * scale);
            labels.draw(&Text::new(shown, at, font.clone()))?;
        }
        Ok(())
    }

    /// Mean, low and high as they are shown.
    fn scaled(&self, estimate: &Estimate) -> [f64; 3] {
        let Estimate { mean, low, high, .. } = *estimate;
        [mean, low.unwrap_or(mean), high.unwrap_or(mean)].map(|value| self.factor * value)
    }
}

/// Names with their colours, long ones on two lines.
fn draw_legend<B: DrawingBackend>(
    legend: &DrawingArea<B, Shift>,
    lines: &[Line],
    scale: i32,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = ("sans-serif", 13 * scale).into_font();
    let at = |pixels: i32| pixels * scale;
    let mut y = 46;
    let muted = lines.iter().filter(|line| line.muted).count();
    let alike = (muted > 0).then(|| (MUTED, format!("{muted} others")));
    let named = lines.iter().filter(|line| !line.muted).enumerate();
    let named = named.map(|(place, line)| (COLORS[place % COLORS.len()], line.name.clone()));
    for (color, name) in named.chain(alike) {
        let style = color.stroke_width(3 * scale.unsigned_abs());
        legend.draw(&PathElement::new([(at(4), at(y)), (at(26), at(y))], style))?;
        for part in wrapped(&name) {
            legend.draw(&Text::new(part, (at(34), at(y - 8)), font.clone()))?;
            y += 17;
        }
        y += 5;
    }
    Ok(())
}

/// A name in lines of a legible length.
fn wrapped(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in name.split(' ') {
        let line = lines.last_mut().expect("one at least");
        if !line.is_empty() && line.chars().count() + word.chars().count() >= LEGEND_LETTERS {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines
}

/// A whole number; nothing for places between two.
fn whole(x: f64) -> String {
    if (x - x.round()).abs() < 0.01 { format!("{x:.0}") } else { String::new() }
}

/// A range that holds all values, with some air.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
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
