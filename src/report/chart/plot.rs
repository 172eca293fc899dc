//! Lines over two axes: curves over time, cumulative distributions.
//!
//! Rule: the legend stands between title and axes and takes the lines it needs, so that it hides nothing; a picture without a
//! point says so. Deliberately not here: which curves.

use super::picture::{Anchor, Lettering, Picture, Stroke, fitted, fitted_title, width_px};
use super::scale::Scale;

/// Size of a picture, pixels.
pub const WIDTH: f64 = 560.0;
/// Height of the axes.
const AXES: f64 = 210.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const TITLE: f64 = 30.0;
const LEGEND_LINE: f64 = 17.0;
const FOOT: f64 = 42.0;
/// A name in the legend at most.
const NAME_PX: f64 = 210.0;
/// Names of upright lines below each other before they begin again at the top.
const NAMES_BELOW: usize = 8;

/// A curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Which colour, from 0; they begin again after [`super::palette::COLOURS`].
    pub colour: usize,
    /// Drawn with gaps.
    pub dashed: bool,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// How an axis is laid out and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Its name and unit.
    pub label: &'static str,
    /// Its values.
    pub scale: Scale,
}

/// A picture of curves.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// Points are held until the next one, as counts are.
    pub steps: bool,
    /// The curves.
    pub series: Vec<Series>,
    /// Upright lines with a name, in order of x.
    pub lines: Vec<Upright>,
}

/// An upright line.
#[derive(Clone, Debug)]
pub struct Upright {
    /// Where it stands.
    pub x: f64,
    /// What it is.
    pub name: String,
    /// The colour of the curve that it belongs to; `None`: it belongs to all.
    pub colour: Option<usize>,
}

impl Plot {
    /// Draws it.
    pub fn picture(&self) -> Picture {
        let rows = self.legend();
        let top = TITLE + LEGEND_LINE * rows.len() as f64 + 8.0;
        let mut picture = Picture::new(WIDTH, top + AXES + FOOT, &self.title);
        picture.text(
            Lettering::Title,
            (LEFT - 40.0, 19.0),
            Anchor::Start,
            &fitted_title(&self.title, WIDTH - 36.0),
        );
        for (line, row) in rows.iter().enumerate() {
            let y = TITLE + LEGEND_LINE * (line as f64 + 0.6);
            for (x, series) in row {
                picture.curve(series.colour, series.dashed, [(*x, y - 4.0), (*x + 18.0, y - 4.0)]);
                picture.text(Lettering::Label, (*x + 23.0, y), Anchor::Start, &fitted(&series.name, NAME_PX));
            }
        }
        self.axes(&mut picture, top);
        let x = |value: f64| LEFT + self.x.scale.place(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| top + AXES * (1.0 - self.y.scale.place(value));
        for series in &self.series {
            let mut last = None;
            let points = series.points.iter().flat_map(|(px, py)| {
                let (px, py) = (x(*px), y(*py));
                let corner = last.replace(py).filter(|_| self.steps).map(|before| (px, before));
                corner.into_iter().chain(Some((px, py)))
            });
            picture.curve(series.colour, series.dashed, points);
        }
        self.uprights(&mut picture, top);
        if self.series.iter().all(|s| s.points.is_empty()) {
            picture.text(
                Lettering::Label,
                (f64::midpoint(LEFT, WIDTH - RIGHT), top + AXES / 2.0),
                Anchor::Middle,
                "nothing to show",
            );
        }
        picture
    }

    /// Where each name of the legend begins, by line; one curve alone needs none.
    fn legend(&self) -> Vec<Vec<(f64, &Series)>> {
        let mut rows: Vec<Vec<(f64, &Series)>> = Vec::new();
        let mut x = f64::INFINITY;
        for series in self.series.iter().filter(|s| self.series.len() > 1 || s.dashed) {
            let wide = 23.0 + width_px(&series.name).min(NAME_PX) + 16.0;
            if x + wide > WIDTH - RIGHT {
                rows.push(Vec::new());
                x = LEFT - 40.0;
            }
            if let Some(row) = rows.last_mut() {
                row.push((x, series));
            }
            x += wide;
        }
        rows
    }

    /// Names stand beside their line, on the side with room, each lower than the one before so that neighbours can be read.
    fn uprights(&self, picture: &mut Picture, top: f64) {
        let at = |line: &Upright| LEFT + self.x.scale.place(line.x) * (WIDTH - LEFT - RIGHT);
        for line in &self.lines {
            picture.line(Stroke::Mark(line.colour), (at(line), top), (at(line), top + AXES));
        }
        // After all lines, as those of neighbours run through them.
        for (n, line) in self.lines.iter().enumerate() {
            let x = at(line);
            let left_of_it = x > f64::midpoint(LEFT, WIDTH - RIGHT);
            let (x, anchor) = if left_of_it { (x - 4.0, Anchor::End) } else { (x + 4.0, Anchor::Start) };
            let y = top + 12.0 + 13.0 * (n % NAMES_BELOW) as f64;
            picture.text(Lettering::Mark, (x, y), anchor, &fitted(&line.name, NAME_PX));
        }
    }

    fn axes(&self, picture: &mut Picture, top: f64) {
        let (right, bottom) = (WIDTH - RIGHT, top + AXES);
        for (value, text) in self.y.scale.ticks() {
            let y = top + AXES * (1.0 - self.y.scale.place(value));
            picture.line(Stroke::Grid, (LEFT, y), (right, y));
            picture.text(Lettering::Label, (LEFT - 6.0, y + 4.0), Anchor::End, &text);
        }
        for (value, text) in self.x.scale.ticks() {
            let x = LEFT + self.x.scale.place(value) * (right - LEFT);
            picture.line(Stroke::Grid, (x, top), (x, bottom));
            picture.text(Lettering::Label, (x, bottom + 15.0), Anchor::Middle, &text);
        }
        picture.line(Stroke::Axis, (LEFT, bottom), (right, bottom));
        picture.text(
            Lettering::Label,
            (f64::midpoint(LEFT, right), bottom + 33.0),
            Anchor::Middle,
            self.x.label,
        );
        picture.upright((14.0, top + AXES / 2.0), self.y.label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::svg::inline;

    fn plot(names: &[&str]) -> Plot {
        let axis = Axis { label: "s", scale: Scale::from_zero(10.0) };
        let series = names.iter().enumerate().map(|(colour, name)| Series {
            name: (*name).to_owned(),
            colour,
            dashed: false,
            points: vec![(0.0, 1.0), (10.0, 10.0)],
        });
        Plot {
            title: "t".to_owned(),
            x: axis,
            y: axis,
            steps: true,
            series: series.collect(),
            lines: Vec::new(),
        }
    }

    #[test]
    fn a_legend_takes_the_lines_it_needs() {
        assert_eq!(plot(&["alone"]).legend().len(), 0);
        assert_eq!(plot(&["a", "b"]).legend().len(), 1);
        let many = ["a name of some length"; 8];
        let wide = plot(&many);
        let rows = wide.legend();
        assert!(rows.len() >= 3, "{}", rows.len());
        for (x, series) in rows.iter().flatten() {
            assert!(x + 23.0 + width_px(&series.name) <= WIDTH, "{x}");
        }
    }

    #[test]
    fn steps_hold_a_value_until_the_next_and_no_point_is_said() {
        let text = inline(&plot(&["a"]).picture());
        assert!(text.contains("d=\"M58.0 227.0L542.0 227.0L542.0 38.0\""), "{text}");
        assert!(!text.contains("class=\"a d\""));
        let line = |x: f64, name: &str, colour| Upright { x, name: name.to_owned(), colour };
        let marked =
            Plot { lines: vec![line(2.5, "hang <1>", None), line(10.0, "over", Some(1))], ..plot(&["a"]) };
        let text = inline(&marked.picture());
        assert!(
            text.contains("<line class=\"a d\" x1=\"179.0\"") && text.contains("hang &lt;1&gt;"),
            "{text}"
        );
        assert!(
            text.contains("<line class=\"s1 d\" x1=\"542.0\"") && text.contains("x=\"538.0\" y=\"63.0\""),
            "{text}"
        );
        // A name stands above the lines of its neighbours, on paper of its own.
        let last_line = text.rfind("<line").unwrap();
        assert!(text.find("class=\"t m\"").is_some_and(|name| name > last_line), "{text}");
        let empty = Plot { series: Vec::new(), ..plot(&[]) };
        assert!(inline(&empty.picture()).contains("nothing to show"));
    }
}
