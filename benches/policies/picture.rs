//! The pictures of the page: a panel for each workload, a line for each arm, as SVG written by hand.
//!
//! Rule: same numbers, same bytes. A dot is the mean over seeds, the bar through it its 95 % interval; a time is on a logarithmic
//! axis, as arms differ by factors. Deliberately not here: what is drawn (`page`).

use std::fmt::Write;

use milepost::report::chart::scale::step;

use crate::stats::Mean;

const COLUMNS: usize = 3;
const LABELS_PX: f64 = 215.0;
const PANEL_PX: f64 = 240.0;
/// Room inside a panel, left and right of its axis.
const MARGIN_PX: f64 = 18.0;
/// On an axis from 0.
const MOST_TICKS: f64 = 5.0;
const LINE_PX: f64 = 17.0;
const HEAD_PX: f64 = 34.0;
const FOOT_PX: f64 = 34.0;
const TITLE_PX: f64 = 30.0;
const OURS: &str = "#c0392b";
const PEER: &str = "#2471a3";
const OTHERS: &str = "#7f8c8d";

/// A line's colour and name.
pub struct Label {
    /// The arm.
    pub name: String,
    /// What it is to the reader.
    pub role: Role,
}

/// Which colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The policy of our own.
    Own,
    /// The router that is replaced.
    Peer,
    /// All others.
    Other,
}

/// A workload: a value for each label, `None` where there is none to tell.
pub struct Panel {
    /// Its title.
    pub title: String,
    /// By label.
    pub values: Vec<Option<Mean>>,
}

/// How values lie on the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Powers of ten.
    Logarithmic,
    /// From 0.
    Linear,
}

/// The whole picture.
pub fn svg(title: &str, axis: Axis, labels: &[Label], panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let panel_height = HEAD_PX + LINE_PX * labels.len() as f64 + FOOT_PX;
    let (width, height) =
        (LABELS_PX + PANEL_PX * COLUMNS as f64 + MARGIN_PX, TITLE_PX + panel_height * rows as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut out,
        (MARGIN_PX, 20.0),
        "start",
        "#222222",
        &format!("<tspan font-size=\"14\">{title}</tspan>"),
    );
    for row in 0..rows {
        let top = TITLE_PX + panel_height * row as f64;
        for (line, label) in labels.iter().enumerate() {
            let y = top + HEAD_PX + LINE_PX * (line as f64 + 0.7);
            text(&mut out, (LABELS_PX - 8.0, y), "end", colour(label.role), &label.name);
        }
        for (column, panel) in panels.iter().skip(row * COLUMNS).take(COLUMNS).enumerate() {
            let left = LABELS_PX + PANEL_PX * column as f64;
            draw(&mut out, (left, top), axis, labels, panel);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn colour(role: Role) -> &'static str {
    match role {
        Role::Own => OURS,
        Role::Peer => PEER,
        Role::Other => OTHERS,
    }
}

/// Where values lie, from the least to the greatest tick.
struct Scale {
    axis: Axis,
    from: f64,
    to: f64,
    left: f64,
}

impl Scale {
    fn of(axis: Axis, values: &[Option<Mean>], left: f64) -> Self {
        let known = values.iter().flatten();
        let most = known.clone().map(|mean| mean.value + mean.half).fold(0.0, f64::max).max(1e-3);
        let least = known.map(|mean| mean.value).fold(most, f64::min).max(1e-3);
        let (from, to) = match axis {
            Axis::Logarithmic => (step(least, false), step(most * 1.01, true)),
            Axis::Linear => (0.0, most * 1.02),
        };
        Self { axis, from, to, left }
    }

    fn x(&self, value: f64) -> f64 {
        let part = match self.axis {
            Axis::Logarithmic => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            Axis::Linear => value / self.to,
        };
        self.left + MARGIN_PX + part.clamp(0.0, 1.0) * (PANEL_PX - 2.0 * MARGIN_PX)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.axis {
            Axis::Logarithmic => {
                let next = |tick: &f64| Some(step(*tick * 1.5, true)).filter(|tick| *tick <= self.to * 1.001);
                std::iter::successors(Some(self.from), next).collect()
            }
            Axis::Linear => {
                let width = step(self.to / MOST_TICKS, true);
                let next = |tick: &f64| Some(tick + width).filter(|tick| *tick <= self.to);
                std::iter::successors(Some(0.0), next).collect()
            }
        }
    }
}

fn draw(out: &mut String, (left, top): (f64, f64), axis: Axis, labels: &[Label], panel: &Panel) {
    let scale = Scale::of(axis, &panel.values, left);
    let (first, last) = (top + HEAD_PX, top + HEAD_PX + LINE_PX * labels.len() as f64);
    text(
        out,
        (left + MARGIN_PX, top + 22.0),
        "start",
        "#222222",
        &format!("<tspan font-weight=\"bold\">{}</tspan>", panel.title),
    );
    for tick in scale.ticks() {
        let x = scale.x(tick);
        line(out, (x, first), (x, last), "#dddddd", 1.0);
        text(out, (x, last + 13.0), "middle", "#555555", &number(tick));
    }
    for (place, (label, value)) in labels.iter().zip(&panel.values).enumerate() {
        let y = first + LINE_PX * (place as f64 + 0.5);
        let colour = colour(label.role);
        let Some(mean) = value else {
            text(out, (left + PANEL_PX - MARGIN_PX, y + 4.0), "end", "#999999", "saturated");
            continue;
        };
        let (from, to) = (scale.x(mean.value - mean.half), scale.x(mean.value + mean.half));
        line(out, (from, y), (to, y), colour, 2.0);
        let x = scale.x(mean.value);
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, colour: &str, what: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{what}</text>"
    );
}

fn number(value: f64) -> String {
    if value >= 1_000.0 && value % 1_000.0 == 0.0 {
        format!("{}k", value / 1_000.0)
    } else {
        format!("{value}")
    }
}
