//! Lines of text as outlines of a font that is compiled in: Noto Sans, regular and bold.
//!
//! Rule: no font of the machine is asked for, so that a picture has its text on a server without any. Deliberately not here: shaping.
//! Letters stand one after the other from left to right, and one that Noto Sans has not (it has Latin, Greek, Cyrillic) is a box.

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, FaceParsingError, GlyphId, OutlineBuilder};

use crate::report::chart::picture::Lettering;

/// The faces, read.
pub(super) struct Fonts {
    regular: Face<'static>,
    bold: Face<'static>,
}

/// A line of text that begins at 0, 0 and stands on y = 0.
pub(super) struct Line {
    /// What is filled; `None` where there is nothing but spaces.
    pub outline: Option<Path>,
    /// Where the next letter would stand, pixels.
    pub width_px: f32,
}

impl Fonts {
    /// Those that are compiled in.
    pub(super) fn compiled_in() -> Result<Self, FaceParsingError> {
        Ok(Self {
            regular: Face::parse(notosans::REGULAR_TTF, 0)?,
            bold: Face::parse(notosans::BOLD_TTF, 0)?,
        })
    }

    /// The outlines of a text.
    pub(super) fn line(&self, lettering: Lettering, text: &str) -> Line {
        let face = match lettering {
            Lettering::Title => &self.bold,
            Lettering::Name | Lettering::Mark | Lettering::Label => &self.regular,
        };
        let scale = lettering.size_px() as f32 / f32::from(face.units_per_em());
        let mut pen = Pen { path: PathBuilder::new(), scale, x: 0.0 };
        for c in text.chars() {
            // As in an SVG, which may not hold them.
            let c = if c.is_control() { ' ' } else { c };
            let glyph = face.glyph_index(c).unwrap_or(GlyphId(0));
            face.outline_glyph(glyph, &mut pen);
            pen.x += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * scale;
        }
        Line { width_px: pen.x, outline: pen.path.finish() }
    }
}

/// Writes the outlines of a letter where it stands in its line; a font's y grows upwards.
struct Pen {
    path: PathBuilder,
    scale: f32,
    x: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
