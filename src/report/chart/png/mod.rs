//! A picture as PNG, for slides and for what shows no SVG.
//!
//! Rule: what the SVG shows in its light scheme, on opaque paper, with two pixels for each of its own and letters of a font of its own.
//! Deliberately not here: what is drawn ([`super::picture`]), what a bar says where a pointer rests on it (a PNG has no pointer).

mod fonts;

use std::fmt;

use tiny_skia::{
    Color, FillRule, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke as Pencil, StrokeDash,
    Transform,
};

use self::fonts::{Fonts, Line};
use super::palette::{CURVE_PX, DASH_PX, HALO_PX, LIGHT, LINE_PX, Rgb};
use super::picture::{Anchor, Lettering, Picture, Shape, Stroke};

/// Pixels of a PNG for each of its picture's, either way.
pub const SCALE: f32 = 2.0;

/// Why there is no PNG.
#[derive(Debug)]
pub enum PngError {
    /// The font that is compiled in cannot be read.
    Font(ttf_parser::FaceParsingError),
    /// There is no memory for as many pixels, or there are none.
    Size {
        /// Pixels from left to right.
        width: u32,
        /// Pixels from top to bottom.
        height: u32,
    },
    /// The encoder's own words.
    Encoding(String),
}

impl fmt::Display for PngError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Font(e) => write!(f, "the font of PNG charts cannot be read: {e}"),
            Self::Size { width, height } => write!(f, "no PNG can have {width} x {height} pixels"),
            Self::Encoding(e) => write!(f, "a PNG cannot be encoded: {e}"),
        }
    }
}

impl std::error::Error for PngError {}

/// The bytes of the file.
///
/// # Errors
/// See [`PngError`]; none is expected of a picture that `bars` or `plot` made.
pub fn encoded(picture: &Picture) -> Result<Vec<u8>, PngError> {
    let fonts = Fonts::compiled_in().map_err(PngError::Font)?;
    let of = |length: f64| (length.round() as f32 * SCALE) as u32;
    let (width, height) = (of(picture.width), of(picture.height));
    let mut pixels = Pixmap::new(width, height).ok_or(PngError::Size { width, height })?;
    let Rgb(red, green, blue) = LIGHT.paper;
    pixels.fill(Color::from_rgba8(red, green, blue, u8::MAX));
    let mut canvas = Canvas { pixels, fonts };
    picture.shapes.iter().for_each(|shape| canvas.draw(shape));
    canvas.pixels.encode_png().map_err(|e| PngError::Encoding(e.to_string()))
}

/// Where it is drawn, in the picture's own pixels.
struct Canvas {
    pixels: Pixmap,
    fonts: Fonts,
}

impl Canvas {
    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Line { stroke, ends } => {
                let (colour, dashed) = match stroke {
                    Stroke::Grid => (LIGHT.grid, false),
                    Stroke::Axis => (LIGHT.soft, false),
                    Stroke::Mark(of) => (of.map_or(LIGHT.soft, |colour| LIGHT.of_series(colour)), true),
                };
                self.stroke(ends, colour, LINE_PX, dashed);
            }
            Shape::Curve { colour, dashed, points } => {
                self.stroke(points, LIGHT.of_series(*colour), CURVE_PX, *dashed);
            }
            Shape::Bar { colour, at, size, .. } => self.bar(LIGHT.of_series(*colour), *at, *size),
            Shape::Text { lettering, at, anchor, text } => {
                let line = self.fonts.line(*lettering, text);
                self.text(&line, *lettering, begun(*at).pre_translate(-before(*anchor, line.width_px), 0.0));
            }
            Shape::Upright { at, text } => {
                let line = self.fonts.line(Lettering::Label, text);
                let turned = begun(*at).pre_rotate(-90.0);
                self.text(&line, Lettering::Label, turned.pre_translate(-line.width_px / 2.0, 0.0));
            }
        }
    }

    fn stroke(&mut self, points: &[(f64, f64)], colour: Rgb, width_px: f64, dashed: bool) {
        let Some(path) = path(points) else { return };
        let dash = if dashed { StrokeDash::new(DASH_PX.map(|px| px as f32).to_vec(), 0.0) } else { None };
        let pencil = Pencil { dash, ..pencil(width_px) };
        self.pixels.stroke_path(&path, &paint(colour), &pencil, Transform::from_scale(SCALE, SCALE), None);
    }

    fn bar(&mut self, colour: Rgb, (x, y): (f64, f64), (width, height): (f64, f64)) {
        // `None` is a bar without an area: an SVG shows none either.
        let Some(rect) = Rect::from_xywh(x as f32, y as f32, width as f32, height as f32) else { return };
        self.pixels.fill_rect(rect, &paint(colour), Transform::from_scale(SCALE, SCALE), None);
    }

    fn text(&mut self, line: &Line, lettering: Lettering, place: Transform) {
        let Some(outline) = &line.outline else { return };
        let colour = match lettering {
            Lettering::Title | Lettering::Name => LIGHT.ink,
            Lettering::Mark | Lettering::Label => LIGHT.soft,
        };
        if matches!(lettering, Lettering::Mark) {
            let halo = pencil(HALO_PX);
            self.pixels.stroke_path(outline, &paint(LIGHT.paper), &halo, place, None);
        }
        self.pixels.fill_path(outline, &paint(colour), FillRule::Winding, place, None);
    }
}

fn pencil(width_px: f64) -> Pencil {
    Pencil { width: width_px as f32, line_join: LineJoin::Round, ..Pencil::default() }
}

/// Moves what begins at 0, 0 to a point.
fn begun((x, y): (f64, f64)) -> Transform {
    Transform::from_scale(SCALE, SCALE).pre_translate(x as f32, y as f32)
}

/// What of a text stands left of its point.
fn before(anchor: Anchor, width_px: f32) -> f32 {
    match anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => width_px / 2.0,
        Anchor::End => width_px,
    }
}

/// Through points; `None` where fewer than two leave nothing to be drawn.
fn path(points: &[(f64, f64)]) -> Option<Path> {
    let mut path = PathBuilder::with_capacity(points.len(), points.len());
    for (n, (x, y)) in points.iter().enumerate() {
        let (x, y) = (*x as f32, *y as f32);
        if n == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.finish()
}

fn paint(Rgb(red, green, blue): Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, u8::MAX);
    paint
}

#[cfg(test)]
pub(crate) mod tests;
