//! Bars beside their names: shares, and the phases of one request one below the other.
//!
//! Rule: bars of one picture have one scale that begins at 0, and each bar's number stands behind it. Deliberately not here: which
//! numbers.

use super::picture::{Anchor, Lettering, Picture, Stroke, fitted, fitted_title, width_px};
use super::plot::WIDTH;
use super::scale::Scale;

const NAMES: f64 = 170.0;
/// Room for what stands behind bars, at least.
const NUMBERS: f64 = 96.0;
const TITLE: f64 = 34.0;
const FOOT: f64 = 40.0;
const BAR: f64 = 13.0;
const BETWEEN: f64 = 7.0;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Which colour, from 0.
    pub colour: usize,
    /// Where it begins and ends.
    pub span: (f64, f64),
    /// Behind it.
    pub text: String,
    /// Shown where a pointer rests on it.
    pub about: String,
}

/// Bars of one name.
#[derive(Clone, Debug)]
pub struct Group {
    /// Left of them.
    pub name: String,
    /// One below the other.
    pub bars: Vec<Bar>,
}

/// A picture of bars.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Above it.
    pub title: String,
    /// Below the axis.
    pub label: &'static str,
    /// From top to bottom.
    pub groups: Vec<Group>,
    /// Colours and what they stand for; none where there is one.
    pub legend: Vec<(usize, String)>,
}

impl Bars {
    /// Draws it.
    pub fn picture(&self) -> Picture {
        let bars: usize = self.groups.iter().map(|g| g.bars.len()).sum();
        let legend = if self.legend.len() > 1 { self.legend.len() as f64 * 16.0 } else { 0.0 };
        let top = TITLE + legend;
        let tall = (bars as f64 * BAR + self.groups.len() as f64 * BETWEEN).max(30.0);
        let most = self.groups.iter().flat_map(|g| &g.bars).map(|b| b.span.1).fold(0.0, f64::max);
        let scale = Scale::from_zero(most);
        let texts = self.groups.iter().flat_map(|g| &g.bars).map(|b| width_px(&b.text));
        let right = WIDTH - texts.map(|px| px + 9.0).fold(NUMBERS, f64::max);
        let x = |value: f64| NAMES + scale.place(value) * (right - NAMES);
        let mut picture = Picture::new(WIDTH, top + tall + FOOT, &self.title);
        picture.text(Lettering::Title, (18.0, 19.0), Anchor::Start, &fitted_title(&self.title, WIDTH - 36.0));
        if self.legend.len() > 1 {
            for (line, (colour, name)) in self.legend.iter().enumerate() {
                let y = TITLE + 16.0 * line as f64 + 6.0;
                picture.bar(*colour, (18.0, y - 8.0), (12.0, 9.0), name);
                picture.text(Lettering::Label, (36.0, y), Anchor::Start, &fitted(name, WIDTH - 60.0));
            }
        }
        for (value, text) in scale.ticks() {
            picture.line(Stroke::Grid, (x(value), top), (x(value), top + tall));
            picture.text(Lettering::Label, (x(value), top + tall + 15.0), Anchor::Middle, &text);
        }
        let mut y = top + BETWEEN / 2.0;
        for group in &self.groups {
            let middle = y + group.bars.len() as f64 * BAR / 2.0 + 4.0;
            picture.text(
                Lettering::Name,
                (NAMES - 8.0, middle),
                Anchor::End,
                &fitted(&group.name, NAMES - 20.0),
            );
            for bar in &group.bars {
                let (from, to) = (x(bar.span.0), x(bar.span.1));
                // A bar of nothing is a stroke, so that it is seen where it lies.
                let wide = (to - from).max(1.0);
                picture.bar(bar.colour, (from, y), (wide, BAR - 2.0), &bar.about);
                let after = (from + wide + 5.0).min(WIDTH - width_px(&bar.text) - 4.0);
                picture.text(Lettering::Label, (after, y + 9.5), Anchor::Start, &bar.text);
                y += BAR;
            }
            y += BETWEEN;
        }
        picture.line(Stroke::Axis, (NAMES, top), (NAMES, top + tall));
        picture.text(
            Lettering::Label,
            (f64::midpoint(NAMES, right), top + tall + 32.0),
            Anchor::Middle,
            self.label,
        );
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::picture::Shape;
    use crate::report::chart::svg::inline;

    #[test]
    fn bars_are_in_proportion_and_their_numbers_behind_them() {
        let bar =
            |colour, to| Bar { colour, span: (0.0, to), text: format!("{to} %"), about: "x".to_owned() };
        let groups = vec![Group { name: "w1".to_owned(), bars: vec![bar(0, 100.0), bar(1, 50.0)] }];
        let legend = vec![(0, "a".to_owned()), (1, "b".to_owned())];
        let text = inline(&Bars { title: "t".to_owned(), label: "%", groups, legend }.picture());
        let full = WIDTH - NUMBERS - NAMES;
        assert!(text.contains(&format!("width=\"{full:.1}\"")), "{text}");
        assert!(text.contains(&format!("width=\"{:.1}\"", full / 2.0)), "{text}");
        assert!(text.contains(">100 %</text>") && text.contains(">a</text>"));
    }

    #[test]
    fn the_number_of_the_longest_bar_stands_behind_it() {
        let text = "100.0 % (1000000)".to_owned();
        let bar = Bar { colour: 0, span: (0.0, 100.0), text, about: String::new() };
        let groups = vec![Group { name: "w1".to_owned(), bars: vec![bar] }];
        let picture = Bars { title: "t".to_owned(), label: "%", groups, legend: Vec::new() }.picture();
        let end = picture.shapes.iter().find_map(|shape| match shape {
            Shape::Bar { at, size, .. } => Some(at.0 + size.0),
            _ => None,
        });
        let begin = picture.shapes.iter().find_map(|shape| match shape {
            Shape::Text { at, text, .. } if text.starts_with("100.0 %") => Some(at.0),
            _ => None,
        });
        assert!(end.zip(begin).is_some_and(|(end, begin)| begin > end), "{end:?} {begin:?}");
    }
}
