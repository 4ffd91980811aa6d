//! Lines against iterations, drawn so that a tired reader can tell them apart.
//!
//! - Names stand where the lines end, with their last value; nobody matches colours with a legend.
//! - Few lines have bands. Many have their intervals side by side at the end, where they are compared.
//! - Lines far away from all others leave the figure at its edge, and their label tells where they are:
//!   one outlier must not press the others together.
//! - What has one value only (supervised fine-tuning alone) is a thin level line.

use super::plots::{COLORS, Chart, Figure, MUTED, range, whole, wrapped};
use bstar_core::statistics::Estimate;
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color as _, Cross, DrawingArea, DrawingAreaErrorKind,
    DrawingBackend, IntoFont as _, LineSeries, PathElement, Polygon, RGBColor, Text,
    TriangleMarker, WHITE,
};
use std::ops::Range;

/// Width of a figure without its labels, at scale 1.
const PLOT_WIDTH: i32 = 640;
/// Where labels begin and end, from the top.
const LABELS: Range<i32> = 40..500;
/// Height of a line of a label, and the gap below its last one.
const LABEL_LINE: i32 = 15;
const LABEL_GAP: i32 = 6;
/// Lines up to which each has a band.
const MOST_BANDS: usize = 3;
/// Distance of two intervals at the end, in iterations, as a share of all.
const APART: f64 = 0.022;
/// One in so many lines may be taken for an outlier.
const ONE_OUTLIER_IN: usize = 4;
/// An outlier stretches what is shown to more than so many times what the others need.
const STRETCH: f64 = 1.6;

/// One entry in a figure of lines.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Its name.
    pub(super) name: String,
    /// Place on the horizontal axis, with mean and interval.
    pub(super) points: Vec<(u32, Estimate)>,
    /// Whether it is one of many that are drawn alike.
    pub(super) muted: bool,
}

/// A line ready to be drawn: numbers as they are shown.
struct Drawn {
    name: String,
    /// Iteration, mean, low, high.
    points: Vec<(f64, [f64; 3])>,
    /// Its colour and its place among the coloured; none where it is muted.
    color: Option<(usize, RGBColor)>,
    /// How many of the coloured end above it.
    rank: usize,
}

impl Drawn {
    fn last(&self) -> [f64; 3] {
        self.points.last().expect("a line has points").1
    }

    /// The means, level to the end where there is one value only.
    fn means(&self, end: f64) -> Vec<(f64, f64)> {
        match self.points.as_slice() {
            [(_, [mean, ..])] => vec![(0.0, *mean), (end, *mean)],
            points => points.iter().map(|(x, [mean, ..])| (*x, *mean)).collect(),
        }
    }

    fn is_level(&self) -> bool {
        self.points.len() == 1
    }
}

/// What of the vertical axis is shown, and how intervals are.
struct View {
    heights: Range<f64>,
    end: f64,
    bands: bool,
}

impl View {
    fn of(lines: &[Drawn]) -> Self {
        let end = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x);
        let end = end.fold(1.0, f64::max);
        let colored = lines.iter().filter(|line| line.color.is_some());
        let bands = colored.count() <= MOST_BANDS;
        let values = |line: &Drawn| -> Vec<f64> {
            let last = line.points.len() - 1;
            let shown = line.points.iter().enumerate().flat_map(|(place, (_, values))| {
                let has_interval = line.color.is_some() && (bands || place == last);
                values[..if has_interval { 3 } else { 1 }].to_vec()
            });
            shown.collect()
        };
        let values: Vec<Vec<f64>> = lines.iter().map(values).collect();
        Self { heights: range(without_outliers(&values).into_iter().flatten()), end, bands }
    }

    fn holds(&self, height: f64) -> bool {
        self.heights.start <= height && height <= self.heights.end
    }
}

/// The groups of values without those few that lie far from all others, in no certain order.
pub(super) fn without_outliers(groups: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut values = groups.concat();
    values.sort_by(f64::total_cmp);
    let Some(center) = values.get(values.len() / 2) else { return groups.to_vec() };
    let far = |group: &[f64]| group.iter().map(|v| (v - center).abs()).fold(0.0, f64::max);
    let mut order = groups.to_vec();
    order.sort_by(|a, b| far(b).total_cmp(&far(a)));
    let width = |left_out: usize| {
        let range = range(order[left_out..].iter().flatten().copied());
        range.end - range.start
    };
    let left_out = (1..=groups.len() / ONE_OUTLIER_IN)
        .fold(0, |before, more| if STRETCH * width(more) < width(before) { more } else { before });
    order.split_off(left_out)
}

/// The parts of a broken line that lie within some heights.
fn clipped(points: &[(f64, f64)], heights: &Range<f64>) -> Vec<[(f64, f64); 2]> {
    let part = |pair: &[(f64, f64)]| {
        let [(x, y), (x_to, y_to)] = [pair[0], pair[1]];
        let at = |height: f64| (height - y) / (y_to - y);
        let (mut from, mut to) = (0.0_f64, 1.0_f64);
        if (y_to - y).abs() < f64::EPSILON {
            return (heights.start <= y && y <= heights.end).then_some([pair[0], pair[1]]);
        }
        let ends = [at(heights.start), at(heights.end)];
        from = from.max(ends[0].min(ends[1]));
        to = to.min(ends[0].max(ends[1]));
        let point = |t: f64| (x + t * (x_to - x), y + t * (y_to - y));
        (from < to).then(|| [point(from), point(to)])
    };
    points.windows(2).filter_map(part).collect()
}

/// Where labels stand, given where they would like to (sorted) and how high they are: near, in order
/// and without overlap, as far as there is room.
fn spread(wanted: &[i32], heights: &[i32], room: &Range<i32>) -> Vec<i32> {
    let mut places = Vec::with_capacity(wanted.len());
    let mut next = room.start;
    for (wanted, height) in wanted.iter().zip(heights) {
        places.push(next.max(*wanted));
        next = places[places.len() - 1] + height;
    }
    let mut bottom = room.end;
    for (place, height) in places.iter_mut().zip(heights).rev() {
        *place = (*place).min(bottom - height);
        bottom = *place;
    }
    places
}

impl Figure {
    /// Draws lines with their labels.
    pub(super) fn draw_lines<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: i32,
        lines: &[Line],
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let last =
            lines.iter().flat_map(|line| &line.points).map(|(iteration, _)| *iteration).max();
        let labels = last.unwrap_or(0).max(1) as usize + 1;
        let lines = self.drawn(lines);
        let view = View::of(&lines);
        let colored = lines.iter().filter(|line| line.color.is_some()).count();
        let apart = APART * view.end;
        let margin = if view.bands { 0.02 * view.end } else { apart * (colored as f64 + 1.0) };
        let (area, _) = root.split_horizontally(PLOT_WIDTH * scale);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 17 * scale).into_font())
            .margin(10 * scale)
            .x_label_area_size(38 * scale)
            .y_label_area_size(58 * scale)
            .build_cartesian_2d(-0.02 * view.end..view.end + margin, view.heights.clone())?;
        chart
            .configure_mesh()
            .x_desc("iteration")
            .y_desc(self.unit.as_str())
            .x_labels(labels)
            .x_label_formatter(&|x| if *x > view.end + 0.01 { String::new() } else { whole(*x) })
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .label_style(("sans-serif", 13 * scale).into_font())
            .axis_desc_style(("sans-serif", 14 * scale).into_font())
            .draw()?;
        for line in &lines {
            draw_line(&mut chart, line, &view, scale)?;
        }
        self.draw_labels(root, &chart, &lines, (&view, margin), scale)
    }

    fn drawn(&self, lines: &[Line]) -> Vec<Drawn> {
        let mut place = 0;
        let mut drawn = |line: &Line| {
            let color = (!line.muted).then(|| {
                place += 1;
                (place - 1, COLORS[(place - 1) % COLORS.len()])
            });
            let points = line.points.iter().map(|(x, e)| (f64::from(*x), self.scaled(e))).collect();
            Drawn { name: line.name.clone(), points, color, rank: 0 }
        };
        let mut drawn: Vec<Drawn> = lines.iter().map(&mut drawn).collect();
        let mut order: Vec<usize> =
            (0..drawn.len()).filter(|place| drawn[*place].color.is_some()).collect();
        order.sort_by(|a, b| drawn[*b].last()[0].total_cmp(&drawn[*a].last()[0]));
        for (rank, place) in order.into_iter().enumerate() {
            drawn[place].rank = rank;
        }
        drawn
    }

    /// Names and last values beside the ends of the lines, the highest first.
    fn draw_labels<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        chart: &Chart<'_, B>,
        lines: &[Drawn],
        (view, margin): (&View, f64),
        scale: i32,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let font = ("sans-serif", 12 * scale).into_font();
        let mut named: Vec<&Drawn> = lines.iter().filter(|line| line.color.is_some()).collect();
        named.sort_by_key(|line| line.rank);
        let texts: Vec<Vec<String>> = named.iter().map(|line| self.label(line, view)).collect();
        let height = |lines: usize| LABEL_LINE * i32::try_from(lines).unwrap_or(1) + LABEL_GAP;
        let heights: Vec<i32> = texts.iter().map(|text| height(text.len())).collect();
        let end = |line: &Drawn| {
            let shown = line.last()[0].clamp(view.heights.start, view.heights.end);
            chart.backend_coord(&(view.end + margin, shown))
        };
        let middle = |text: &Vec<String>| height(text.len()) / 2;
        let wanted = named.iter().zip(&texts);
        let wanted: Vec<i32> =
            wanted.map(|(line, text)| end(line).1 / scale - middle(text)).collect();
        let places = spread(&wanted, &heights, &LABELS);
        for ((line, text), place) in named.iter().zip(&texts).zip(places) {
            let Some((_, color)) = line.color else { continue };
            let beside = (place + LABEL_LINE / 2) * scale;
            let (x, y) = end(line);
            let leader = [(x, y), ((PLOT_WIDTH + 6) * scale, beside)];
            root.draw(&PathElement::new(
                leader,
                color.mix(0.5).stroke_width(scale.unsigned_abs()),
            ))?;
            let dash = [((PLOT_WIDTH + 6) * scale, beside), ((PLOT_WIDTH + 20) * scale, beside)];
            root.draw(&PathElement::new(dash, color.stroke_width(3 * scale.unsigned_abs())))?;
            for (row, part) in (0_i32..).zip(text) {
                let at = ((PLOT_WIDTH + 26) * scale, (place + LABEL_LINE * row) * scale);
                root.draw(&Text::new(part.clone(), at, font.clone()))?;
            }
        }
        let muted = lines.len() - named.len();
        if muted > 0 {
            let at = ((PLOT_WIDTH + 26) * scale, (LABELS.end + 10) * scale);
            let style = font.color(&MUTED);
            root.draw(&Text::new(format!("grey: {muted} others"), at, style))?;
        }
        Ok(())
    }

    /// A name with the last value, and where that is if it is not in the figure.
    fn label(&self, line: &Drawn, view: &View) -> Vec<String> {
        let mean = line.last()[0];
        let value = self.shown(mean);
        let place = match mean {
            mean if mean < view.heights.start => ", below",
            mean if mean > view.heights.end => ", above",
            _ => "",
        };
        wrapped(&format!("{}  {value}{place}", line.name))
    }
}

fn draw_line<B: DrawingBackend>(
    chart: &mut Chart<'_, B>,
    line: &Drawn,
    view: &View,
    scale: i32,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let color = line.color.map_or(MUTED, |(_, color)| color);
    let thin = line.color.is_none() || line.is_level();
    let width = if thin { scale } else { 2 * scale };
    let means = line.means(view.end);
    for part in clipped(&means, &view.heights) {
        chart.draw_series(LineSeries::new(part, color.stroke_width(width.unsigned_abs())))?;
    }
    let Some((place, _)) = line.color else { return Ok(()) };
    if view.bands && !line.is_level() {
        let inside = |height: f64| height.clamp(view.heights.start, view.heights.end);
        let lower = line.points.iter().map(|(x, [_, low, _])| (*x, inside(*low)));
        let upper = line.points.iter().rev().map(|(x, [_, _, high])| (*x, inside(*high)));
        let band: Vec<(f64, f64)> = lower.chain(upper).collect();
        chart.draw_series(std::iter::once(Polygon::new(band, color.mix(0.12).filled())))?;
    } else {
        let x = view.end + APART * view.end * (line.rank as f64 + 1.0);
        let [_, low, high] = line.last();
        let style = color.stroke_width(2 * scale.unsigned_abs());
        for part in clipped(&[(x, low), (x, high)], &view.heights) {
            chart.draw_series(LineSeries::new(part, style))?;
        }
        let mean = line.last()[0];
        if view.holds(mean) {
            let dot = Circle::new((x, mean), 3 * scale, color.filled());
            chart.draw_series(std::iter::once(dot))?;
        }
    }
    let at = means.into_iter().filter(|(_, mean)| !line.is_level() && view.holds(*mean));
    let (size, fill) = (3 * scale, color.filled());
    match place / COLORS.len() {
        0 => chart.draw_series(at.map(|at| Circle::new(at, size, fill)))?,
        1 => chart.draw_series(at.map(|at| TriangleMarker::new(at, size, fill)))?,
        _ => chart.draw_series(at.map(|at| Cross::new(at, size, color)))?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_far_line_of_many_is_left_out_of_the_axis() {
        let near = |of: f64| vec![of, of + 10.0];
        let outlier = vec![35.0, 1.0];
        let groups = vec![near(40.0), near(42.0), near(45.0), outlier.clone()];
        let kept = without_outliers(&groups);
        assert!(kept.len() == 3 && !kept.contains(&outlier), "{kept:?}");
        let two = [groups.clone(), groups.clone()].concat();
        assert_eq!(without_outliers(&two).len(), 6, "two of eight");
        assert_eq!(without_outliers(&groups[2..]).len(), 2, "of few lines each counts");
        let even: Vec<Vec<f64>> = (0..8).map(|of| near(10.0 * f64::from(of))).collect();
        assert_eq!(without_outliers(&even).len(), 8, "spread out, but none is far from all");
        assert!(without_outliers(&[]).is_empty());
    }

    #[test]
    fn a_line_is_cut_where_it_leaves_the_figure() {
        let parts = clipped(&[(0.0, 5.0), (1.0, -5.0), (2.0, -5.0), (3.0, 15.0)], &(0.0..10.0));
        assert_eq!(parts, [[(0.0, 5.0), (0.5, 0.0)], [(2.25, 0.0), (2.75, 10.0)]]);
        assert_eq!(clipped(&[(0.0, 3.0), (1.0, 3.0)], &(0.0..10.0)).len(), 1);
        assert!(clipped(&[(0.0, 30.0), (1.0, 30.0)], &(0.0..10.0)).is_empty());
    }

    #[test]
    fn labels_do_not_overlap_and_stay_within_their_room() {
        let places = spread(&[10, 12, 90, 95], &[20, 20, 20, 20], &(0..100));
        assert_eq!(places, [10, 30, 60, 80]);
        assert_eq!(spread(&[50, 70], &[20, 20], &(0..100)), [50, 70]);
        assert_eq!(spread(&[-5], &[20], &(0..100)), [0]);
    }
}
