//! Plots over time as inline SVG, without scripts; colours are classes, so that light and dark
//! pages have their own.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::escape::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 250.0;
/// Margins for the labels at the left, top, right and bottom, in SVG units.
const MARGINS: (f64, f64, f64, f64) = (64.0, 14.0, 18.0, 30.0);
/// Number of colours with a class.
const COLOURS: usize = 6;

/// A line of a plot.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(Timestamp, f64)>,
}

pub(super) struct Plot<'a> {
    /// Description for people who cannot see it.
    pub(super) label: &'a str,
    pub(super) unit: &'a str,
    pub(super) series: Vec<Series>,
    /// A horizontal line for a limit, with its name.
    pub(super) limit: Option<(f64, &'a str)>,
    pub(super) joined: bool,
}

impl Plot<'_> {
    /// The figure with its legend; `None` if there is nothing to draw.
    #[expect(clippy::too_many_lines, reason = "one drawing, from its axes to its legend")]
    pub(super) fn svg(&self) -> Option<String> {
        let times: Vec<Timestamp> = self
            .series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.0))
            .collect();
        let (first, last) = (times.iter().min()?, times.iter().max()?);
        // A single moment still needs an axis.
        let (first, last) = if first == last {
            (*first - SignedDuration::from_mins(30), *last + SignedDuration::from_mins(30))
        } else {
            (*first, *last)
        };
        let highest = self
            .series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.1))
            .fold(0.0, f64::max);
        let top = nice_top(highest.max(self.limit.map_or(0.0, |limit| limit.0)));
        let (left, above, right, below) = MARGINS;
        let span = last.duration_since(first).as_secs_f64();
        let x = |time: Timestamp| {
            left + (WIDTH - left - right) * time.duration_since(first).as_secs_f64() / span
        };
        let y = |value: f64| HEIGHT - below - (HEIGHT - above - below) * value / top;
        let mut svg = String::new();
        // Writing to a string cannot fail, here and below.
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" direction=\"ltr\">",
            escape(self.label)
        );
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - right,
                y(value),
                y(value),
                left - 8.0,
                y(value) + 4.0,
                number(value, top)
            );
        }
        let format = if span > 3.0 * 86_400.0 { "%Y-%m-%d" } else { "%m-%d %H:%M" };
        for step in 0..=3 {
            let time = first + SignedDuration::from_secs_f64(span * f64::from(step) / 3.0);
            let anchor =
                ["start", "middle", "middle", "end"][usize::try_from(step).unwrap_or_default()];
            let _ = write!(
                svg,
                "<text class=\"tick {anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x(time),
                HEIGHT - 8.0,
                time.strftime(format)
            );
        }
        if let Some((limit, name)) = self.limit {
            let _ = write!(
                svg,
                "<line class=\"limit\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick end limit-name\" x=\"{:.1}\" y=\"{:.1}\">{} {}</text>",
                WIDTH - right,
                y(limit),
                y(limit),
                WIDTH - right,
                y(limit) - 5.0,
                escape(name),
                number(limit, top)
            );
        }
        for (at, series) in self.series.iter().enumerate() {
            let colour = at % COLOURS;
            if self.joined && series.points.len() > 1 {
                let path: Vec<String> = series
                    .points
                    .iter()
                    .map(|(time, value)| format!("{:.1},{:.1}", x(*time), y(*value)))
                    .collect();
                let _ = write!(
                    svg,
                    "<polyline class=\"line c{colour}\" points=\"{}\"/>",
                    path.join(" ")
                );
            }
            // Too many marks would hide the line.
            if !self.joined || series.points.len() <= 24 {
                for (time, value) in &series.points {
                    let _ = write!(
                        svg,
                        "<circle class=\"dot c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\"><title>{}: {} {}, {}</title></circle>",
                        x(*time),
                        y(*value),
                        escape(&series.name),
                        number(*value, top),
                        escape(self.unit),
                        super::moment(*time)
                    );
                }
            }
        }
        svg.push_str("</svg><ul class=\"legend\">");
        for (at, series) in self.series.iter().enumerate() {
            let _ = write!(
                svg,
                "<li><i class=\"c{}\"></i><bdi>{}</bdi></li>",
                at % COLOURS,
                escape(&series.name)
            );
        }
        let _ = write!(svg, "<li class=\"unit\">{}</li></ul>", escape(self.unit));
        Some(svg)
    }
}

/// The end of an axis: 1, 2, 4 or 8 times a power of ten, so that four steps have round values.
fn nice_top(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(highest.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|top| *top >= highest * 1.02)
        .unwrap_or(20.0 * power)
}

/// A value on an axis that ends at `top`, with as many digits as its steps need.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of digits, never negative"
)]
fn number(value: f64, top: f64) -> String {
    let digits = (2.0 - top.log10().floor()).clamp(2.0, 12.0) as usize;
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_on_round_numbers_above_all_that_is_drawn() {
        for (highest, top) in
            [(0.0, 1.0), (0.7, 0.8), (1.0, 2.0), (26.0, 40.0), (79.0, 100.0), (1000.0, 2000.0)]
        {
            assert!((nice_top(highest) - top).abs() < 1e-9, "{highest}: {}", nice_top(highest));
        }
        assert_eq!(
            [number(2.50, 4.0), number(40.0, 40.0), number(0.0, 1.0)],
            ["2.5".to_owned(), "40".to_owned(), "0".to_owned()]
        );
    }

    #[test]
    fn no_two_labels_of_an_axis_are_equal() {
        for top in [0.000_2, 0.02, 0.1, 0.8, 1.0, 4.0, 26.0, 2000.0] {
            let labels: Vec<String> =
                (0..=4).map(|step| number(top * f64::from(step) / 4.0, top)).collect();
            let mut different = labels.clone();
            different.dedup();
            assert_eq!(labels, different, "{top}");
        }
    }

    #[test]
    fn a_single_point_is_drawn_and_names_cannot_break_out() {
        let series = vec![Series {
            name: "</svg><script>".into(),
            points: vec![(Timestamp::UNIX_EPOCH, 3.0)],
        }];
        let plot = Plot {
            label: "a \"label\"",
            unit: "hours",
            series,
            limit: Some((24.0, "limit")),
            joined: true,
        };
        let svg = plot.svg().expect("a figure");
        assert!(
            svg.contains("<circle") && svg.contains("limit 24") && !svg.contains("<script>"),
            "{svg}"
        );
        let none = Plot { label: "", unit: "", series: Vec::new(), limit: None, joined: true };
        assert!(none.svg().is_none());
    }
}
