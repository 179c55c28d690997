//! Results as pages of their own: figures, and lines drawn as SVG. Nothing is fetched from anywhere.

use std::fmt::Write as _;

/// Size of a plot's inner part,
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
/// and what its labels take.
const LEFT: f64 = 90.0;
const ROOM: f64 = 40.0;
/// Colours of the lines, in order.
const COLOURS: [&str; 4] = ["#0a6ebd", "#c2410c", "#4d7c0f", "#7e22ce"];

/// How values become places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From nothing on.
    Linear,
    /// By their logarithm.
    Log,
}

impl Scale {
    fn of(self, value: f64) -> f64 {
        if self == Scale::Log { value.max(1e-9).log10() } else { value }
    }
}

/// One direction of a plot.
pub struct Axis {
    /// What it shows, and in which unit.
    pub title: &'static str,
    /// How values become places.
    pub scale: Scale,
    /// Marks of one's own: where, and what to write.
    pub marks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that marks itself.
    pub fn new(title: &'static str, scale: Scale) -> Self {
        Self { title, scale, marks: Vec::new() }
    }

    /// The values of the first and the last place.
    fn range(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        let marked = self.marks.iter().map(|(value, _)| *value);
        let places = values.chain(marked).filter(|value| value.is_finite()).map(|value| self.scale.of(value));
        let (low, high) =
            places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let low = if self.scale == Scale::Linear { low.min(0.0) } else { low };
        if !low.is_finite() {
            (0.0, 1.0) // nothing to show
        } else if low < high {
            (low, high)
        } else {
            (low - 0.5, low + 0.5)
        }
    }

    fn marks(&self, (low, high): (f64, f64)) -> Vec<(f64, String)> {
        if !self.marks.is_empty() {
            return self.marks.iter().map(|(value, text)| (self.scale.of(*value), text.clone())).collect();
        }
        let value = |place: f64| if self.scale == Scale::Log { 10f64.powf(place) } else { place };
        (0..=4)
            .map(|at| low + (high - low) * f64::from(at) / 4.0)
            .map(|place| (place, short(value(place))))
            .collect()
    }
}

/// A line of a plot.
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// Lines over common axes.
pub fn plot(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let (across, up) = (x.range(all().map(|point| point.0)), y.range(all().map(|point| point.1)));
    let to_x = |place: f64| LEFT + (place - across.0) / (across.1 - across.0) * WIDTH;
    let to_y = |place: f64| 10.0 + HEIGHT - (place - up.0) / (up.1 - up.0) * HEIGHT;
    let mut svg = String::new();
    let mut draw = |words: std::fmt::Arguments<'_>| {
        let _ = svg.write_fmt(words); // a String takes everything
    };
    for (place, text) in y.marks(up) {
        let at = to_y(place);
        draw(format_args!(
            "<line x1='{LEFT}' x2='{}' y1='{at:.1}' y2='{at:.1}' class='grid'/>",
            LEFT + WIDTH
        ));
        draw(format_args!("<text x='{}' y='{:.1}' text-anchor='end'>{text}</text>", LEFT - 6.0, at + 4.0));
    }
    for (place, text) in x.marks(across) {
        draw(format_args!(
            "<text x='{:.1}' y='{}' text-anchor='middle'>{text}</text>",
            to_x(place),
            HEIGHT + 26.0
        ));
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: String = line
            .points
            .iter()
            .filter(|(a, b)| a.is_finite() && b.is_finite())
            .map(|(a, b)| format!("{:.1},{:.1} ", to_x(x.scale.of(*a)), to_y(y.scale.of(*b))))
            .collect();
        draw(format_args!("<polyline fill='none' stroke='{colour}' stroke-width='2' points='{points}'/>"));
    }
    let legend: String = lines
        .iter()
        .zip(COLOURS.iter().cycle())
        .map(|(line, colour)| format!("<span style='color:{colour}'>━ {}</span> ", line.name))
        .collect();
    format!(
        "<h2>{title}</h2><p>{}{legend}<br>across: {}</p><svg width='{}' height='{}' role='img'>{svg}</svg>",
        if y.title.is_empty() { String::new() } else { format!("up: {} &nbsp; ", y.title) },
        x.title,
        LEFT + WIDTH + ROOM,
        HEIGHT + ROOM,
    )
}

/// The page around its parts.
pub fn page(title: &str, parts: &[String]) -> String {
    format!(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Hashward load test</title>\
         <style>body{{font:15px system-ui,sans-serif;margin:2em;max-width:60em;color:#222;background:#fff}}\
         svg{{background:#f6f6f6}}svg text{{font-size:12px;fill:#444}}.grid{{stroke:#ddd}}h2{{font-size:1.1em}}\
         </style><h1>{title}</h1>{}</html>\n",
        parts.concat()
    )
}

/// Text as it may stand in a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number in few characters.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.2} M", value / 1e6),
        large if large >= 1e4 => format!("{:.0} k", value / 1e3),
        large if large >= 10.0 || large == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_inside_the_plot_and_what_is_not_finite_is_left_out() {
        let points = vec![(1.0, 10.0), (2.0, 1000.0), (3.0, f64::INFINITY)];
        let drawn = plot(
            "T",
            &Axis::new("s", Scale::Linear),
            &Axis::new("µs", Scale::Log),
            &[Line { name: "p99", points }],
        );
        let line = drawn.split("points='").nth(1).unwrap().split('\'').next().unwrap();
        let places: Vec<(f64, f64)> = line
            .split_whitespace()
            .map(|point| {
                point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap()
            })
            .collect();
        assert_eq!(places.len(), 2);
        assert!(places[0].1 > places[1].1, "more is further up: {places:?}");
        assert!(
            places
                .iter()
                .all(|(x, y)| (LEFT..=LEFT + WIDTH).contains(x) && (10.0..=10.0 + HEIGHT).contains(y))
        );
    }

    #[test]
    fn one_value_and_none_at_all_are_drawn_too() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(5.0, 5.0)]] {
            let drawn = plot(
                "T",
                &Axis::new("s", Scale::Linear),
                &Axis::new("µs", Scale::Log),
                &[Line { name: "a", points }],
            );
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        }
    }
}
