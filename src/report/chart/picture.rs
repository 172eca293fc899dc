//! A picture as a list of what is drawn: lines, curves, bars and texts, from the first to the last.
//!
//! Rule: what is written as SVG and as PNG is this list and nothing else, so that both show the same. Deliberately not here: how it is
//! written ([`super::svg`], `super::png`), colours and sizes ([`super::palette`]).

/// Where a text stands from its point.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// Right of it.
    Start,
    /// Around it.
    Middle,
    /// Left of it.
    End,
}

/// What a text is.
#[derive(Clone, Copy, Debug)]
pub enum Lettering {
    /// Of the whole picture.
    Title,
    /// Of what a row of bars belongs to.
    Name,
    /// Of a line that marks something, above whatever runs through it.
    Mark,
    /// All else.
    Label,
}

impl Lettering {
    /// Its size.
    pub fn size_px(self) -> f64 {
        match self {
            Self::Title => 13.0,
            Self::Name | Self::Mark | Self::Label => 11.0,
        }
    }
}

/// What a straight line is.
#[derive(Clone, Copy, Debug)]
pub enum Stroke {
    /// From a tick across the picture.
    Grid,
    /// Beside which ticks are written.
    Axis,
    /// A dashed one where something happened, in the colour of a series or of the axes.
    Mark(Option<usize>),
}

/// One thing that is drawn. Places are in pixels from the upper left corner; of a text it is where its line stands.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A straight line.
    Line {
        /// What it is.
        stroke: Stroke,
        /// Its ends.
        ends: [(f64, f64); 2],
    },
    /// A line through points, in one stroke; fewer than two show nothing.
    Curve {
        /// Which colour.
        colour: usize,
        /// Drawn with gaps.
        dashed: bool,
        /// In order.
        points: Vec<(f64, f64)>,
    },
    /// A filled box.
    Bar {
        /// Which colour.
        colour: usize,
        /// Its upper left corner.
        at: (f64, f64),
        /// Width and height.
        size: (f64, f64),
        /// Shown where a pointer rests on it.
        about: String,
    },
    /// One line of text.
    Text {
        /// What it is.
        lettering: Lettering,
        /// Its point.
        at: (f64, f64),
        /// Where it stands from there.
        anchor: Anchor,
        /// What it says.
        text: String,
    },
    /// A label that stands along the vertical axis and reads upwards, around its point.
    Upright {
        /// Its point.
        at: (f64, f64),
        /// What it says.
        text: String,
    },
}

/// A picture that grows.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: f64,
    /// Pixels from top to bottom.
    pub height: f64,
    /// What it shows, in words.
    pub about: String,
    /// What is drawn, the later above the earlier.
    pub shapes: Vec<Shape>,
}

impl Picture {
    /// An empty picture of this size in pixels; `about` says in words what it shows.
    pub fn new(width: f64, height: f64, about: &str) -> Self {
        Self { width, height, about: about.to_owned(), shapes: Vec::new() }
    }

    /// A straight line.
    pub fn line(&mut self, stroke: Stroke, from: (f64, f64), to: (f64, f64)) {
        self.shapes.push(Shape::Line { stroke, ends: [from, to] });
    }

    /// A line through points.
    pub fn curve(&mut self, colour: usize, dashed: bool, points: impl IntoIterator<Item = (f64, f64)>) {
        self.shapes.push(Shape::Curve { colour, dashed, points: points.into_iter().collect() });
    }

    /// A filled box; `about` is shown where a pointer rests on it.
    pub fn bar(&mut self, colour: usize, at: (f64, f64), (width, height): (f64, f64), about: &str) {
        let size = (width.max(0.0), height);
        self.shapes.push(Shape::Bar { colour, at, size, about: about.to_owned() });
    }

    /// One line of text.
    pub fn text(&mut self, lettering: Lettering, at: (f64, f64), anchor: Anchor, text: &str) {
        self.shapes.push(Shape::Text { lettering, at, anchor, text: text.to_owned() });
    }

    /// A label that stands along the vertical axis.
    pub fn upright(&mut self, at: (f64, f64), text: &str) {
        self.shapes.push(Shape::Upright { at, text: text.to_owned() });
    }
}

/// How wide a text of eleven pixels is, about.
pub fn width_px(text: &str) -> f64 {
    text.chars().count() as f64 * 6.3
}

/// A text that fits: its middle is left out, as what tells names apart is mostly at an end.
pub fn fitted(text: &str, most_px: f64) -> String {
    let (count, most) = (text.chars().count(), (most_px / 6.3) as usize);
    if count <= most || most < 5 {
        return text.to_owned();
    }
    let (head, tail) = ((most - 1) / 2, most - 1 - (most - 1) / 2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{start}…{end}")
}

/// A title that fits.
pub fn fitted_title(text: &str, most_px: f64) -> String {
    fitted(text, most_px * 6.3 / 7.6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_loses_its_middle() {
        assert_eq!(fitted("127.0.0.1:31000", 200.0), "127.0.0.1:31000");
        let short = fitted("a-very-long-name-of-a-worker:31000", 63.0);
        assert_eq!((short.chars().count(), short.as_str()), (10, "a-ve…31000"));
    }
}
