//! An SVG as text.
//!
//! Rule: same numbers, same bytes; every text is escaped; colours are names of classes, which the style sheet gives twice, for light
//! and for dark. Deliberately not here: what is drawn.

use std::fmt::Write;

/// Colours of lines before they begin again.
pub const COLOURS: usize = 8;

/// The style of every picture; a page that holds pictures has it once. Series are told apart by those with weak colour vision too.
pub const STYLE: &str = "\
:root{--paper:#ffffff;--ink:#1f2328;--soft:#59636e;--grid:#dfe4e9;\
--c0:#0067a5;--c1:#c2410c;--c2:#00795c;--c3:#a8488e;--c4:#8a6d00;--c5:#4b4fb5;--c6:#1e8aa8;--c7:#6b7280}\
@media(prefers-color-scheme:dark){:root{--paper:#0f1419;--ink:#e6edf3;--soft:#9aa4af;--grid:#2c343d;\
--c0:#5ab0f0;--c1:#ff9d5c;--c2:#4cc9a0;--c3:#e08ac8;--c4:#e0c04a;--c5:#a3a6ff;--c6:#6fd3ec;--c7:#a9b1bb}}\
svg{background:var(--paper);font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}\
.h{fill:var(--ink);font-size:13px;font-weight:600}.t{fill:var(--soft);font-size:11px}.v{fill:var(--ink);font-size:11px}\
.g{stroke:var(--grid);stroke-width:1}.a{stroke:var(--soft);stroke-width:1}\
.l{fill:none;stroke-width:1.6;stroke-linejoin:round}.d{stroke-dasharray:5 3}\
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}\
.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}\
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}\
.f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}";

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

/// A picture that grows.
#[derive(Clone, Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// An empty picture of this size in pixels; `about` says in words what it shows.
    pub fn new(width: f64, height: f64, about: &str) -> Self {
        Self { width, height, body: format!("<title>{}</title>\n", escaped(about)) }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    /// A line through points, in one stroke.
    pub fn path(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut way = String::new();
        for (x, y) in points {
            let _ = write!(way, "{}{x:.1} {y:.1}", if way.is_empty() { 'M' } else { 'L' });
        }
        let _ = writeln!(self.body, "<path class=\"l {class}\" d=\"{way}\"/>");
    }

    /// A filled box; `about` is shown where a pointer rests on it.
    pub fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), about: &str) {
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
            width.max(0.0),
            escaped(about)
        );
    }

    /// One line of text.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        );
    }

    /// Text that stands along the vertical axis.
    pub fn upright(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\">{}</text>",
            escaped(text)
        );
    }

    /// As a part of a page that has [`STYLE`].
    pub fn inline(&self) -> String {
        self.element("")
    }

    /// As a file of its own.
    pub fn file(&self) -> String {
        self.element(&format!("<style>{STYLE}</style>\n"))
    }

    fn element(&self, style: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\">\n{style}{body}</svg>\n"
        )
    }
}

/// Text as XML and HTML take it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No XML may hold them, in whatever writing.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
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

/// A title of [`STYLE`]'s class `h` that fits.
pub fn fitted_title(text: &str, most_px: f64) -> String {
    fitted(text, most_px * 6.3 / 7.6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_break_out_of_a_picture() {
        let mut svg = Svg::new(10.0, 10.0, "a & b");
        svg.text("t", (1.0, 2.0), Anchor::End, "<script>\"\u{1}");
        svg.bar("f0", (0.0, 0.0), (-3.0, 1.0), "<b>");
        let text = svg.file();
        assert!(
            text.contains("&lt;script&gt;&quot; ")
                && text.contains("&lt;b&gt;")
                && text.contains("a &amp; b")
        );
        assert!(text.contains("width=\"0.0\"") && text.contains("<style>"));
        assert!(!svg.inline().contains("<style>"));
    }

    #[test]
    fn a_long_name_loses_its_middle() {
        assert_eq!(fitted("127.0.0.1:31000", 200.0), "127.0.0.1:31000");
        let short = fitted("a-very-long-name-of-a-worker:31000", 63.0);
        assert_eq!((short.chars().count(), short.as_str()), (10, "a-ve…31000"));
    }
}
