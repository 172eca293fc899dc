//! Colours and sizes of every picture.
//!
//! Rule: whatever a picture is written as takes them from here, so that an SVG and a PNG look alike. Deliberately not here: what is
//! drawn in which of them ([`super::picture`]).

/// Colours of series before they begin again.
pub const COLOURS: usize = 8;
/// Width of a grid line and of an axis.
pub const LINE_PX: f64 = 1.0;
/// Width of a curve.
pub const CURVE_PX: f64 = 1.6;
/// Paper around the letters of a text that something may run through, on all sides together.
pub const HALO_PX: f64 = 3.0;
/// Drawn and left out, by turns, of what is dashed.
pub const DASH_PX: [f64; 2] = [5.0, 3.0];

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// The colours of one scheme.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Below everything.
    pub paper: Rgb,
    /// Titles and names.
    pub ink: Rgb,
    /// Axes and what is written beside them.
    pub soft: Rgb,
    /// Lines from ticks.
    pub grid: Rgb,
    /// Series, told apart by those with weak colour vision too.
    pub series: [Rgb; COLOURS],
}

impl Palette {
    /// The colour of a series, of any number.
    pub fn of_series(&self, colour: usize) -> Rgb {
        self.series[colour % COLOURS]
    }
}

/// Dark on light.
pub const LIGHT: Palette = Palette {
    paper: Rgb(0xff, 0xff, 0xff),
    ink: Rgb(0x1f, 0x23, 0x28),
    soft: Rgb(0x59, 0x63, 0x6e),
    grid: Rgb(0xdf, 0xe4, 0xe9),
    series: [
        Rgb(0x00, 0x67, 0xa5),
        Rgb(0xc2, 0x41, 0x0c),
        Rgb(0x00, 0x79, 0x5c),
        Rgb(0xa8, 0x48, 0x8e),
        Rgb(0x8a, 0x6d, 0x00),
        Rgb(0x4b, 0x4f, 0xb5),
        Rgb(0x1e, 0x8a, 0xa8),
        Rgb(0x6b, 0x72, 0x80),
    ],
};

/// Light on dark.
pub const DARK: Palette = Palette {
    paper: Rgb(0x0f, 0x14, 0x19),
    ink: Rgb(0xe6, 0xed, 0xf3),
    soft: Rgb(0x9a, 0xa4, 0xaf),
    grid: Rgb(0x2c, 0x34, 0x3d),
    series: [
        Rgb(0x5a, 0xb0, 0xf0),
        Rgb(0xff, 0x9d, 0x5c),
        Rgb(0x4c, 0xc9, 0xa0),
        Rgb(0xe0, 0x8a, 0xc8),
        Rgb(0xe0, 0xc0, 0x4a),
        Rgb(0xa3, 0xa6, 0xff),
        Rgb(0x6f, 0xd3, 0xec),
        Rgb(0xa9, 0xb1, 0xbb),
    ],
};
