//! A picture as SVG.
//!
//! Rule: same numbers, same bytes; every text is escaped; colours are names of classes, which the style sheet gives twice, for light
//! and for dark. Deliberately not here: what is drawn.

use std::fmt::Write;

use super::palette::{COLOURS, CURVE_PX, DARK, DASH_PX, HALO_PX, LIGHT, LINE_PX, Palette, Rgb};
use super::picture::{Anchor, Lettering, Picture, Shape, Stroke};

/// The style of every picture; a page that holds pictures has it once.
pub fn style() -> String {
    let (light, dark) = (variables(&LIGHT), variables(&DARK));
    let (title, label) = (Lettering::Title.size_px(), Lettering::Label.size_px());
    let [drawn, gap] = DASH_PX;
    let of_series = |of: fn(usize) -> String| (0..COLOURS).map(of).collect::<String>();
    let strokes = of_series(|n| format!(".s{n}{{stroke:var(--c{n})}}"));
    let fills = of_series(|n| format!(".f{n}{{fill:var(--c{n})}}"));
    format!(
        ":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\
         svg{{background:var(--paper);font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}}\
         .h{{fill:var(--ink);font-size:{title}px;font-weight:600}}.t{{fill:var(--soft);font-size:{label}px}}\
         .v{{fill:var(--ink);font-size:{label}px}}\
         .m{{stroke:var(--paper);stroke-width:{HALO_PX};stroke-linejoin:round;paint-order:stroke}}\
         .g{{stroke:var(--grid);stroke-width:{LINE_PX}}}.a{{stroke:var(--soft);stroke-width:{LINE_PX}}}\
         .l{{fill:none;stroke-width:{CURVE_PX};stroke-linejoin:round}}.d{{stroke-dasharray:{drawn} {gap}}}{strokes}{fills}"
    )
}

fn variables(of: &Palette) -> String {
    let named = [("paper", of.paper), ("ink", of.ink), ("soft", of.soft), ("grid", of.grid)];
    let named = named.map(|(name, colour)| (name.to_owned(), colour));
    let series = of.series.iter().enumerate().map(|(n, colour)| (format!("c{n}"), *colour));
    let one = |(name, Rgb(red, green, blue))| format!("--{name}:#{red:02x}{green:02x}{blue:02x}");
    named.into_iter().chain(series).map(one).collect::<Vec<_>>().join(";")
}

/// As a part of a page that has [`style`].
pub fn inline(picture: &Picture) -> String {
    element(picture, "")
}

/// As a file of its own.
pub fn file(picture: &Picture) -> String {
    element(picture, &format!("<style>{}</style>\n", style()))
}

fn element(picture: &Picture, style: &str) -> String {
    let Picture { width, height, about, shapes } = picture;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\">\n{style}<title>{}</title>\n",
        escaped(about)
    );
    for shape in shapes {
        write_shape(&mut out, shape);
    }
    out.push_str("</svg>\n");
    out
}

fn write_shape(out: &mut String, shape: &Shape) {
    // Writing to a String cannot fail.
    let _ = match shape {
        Shape::Line { stroke, ends: [(x1, y1), (x2, y2)] } => {
            let class = match stroke {
                Stroke::Grid => "g".to_owned(),
                Stroke::Axis => "a".to_owned(),
                Stroke::Mark(None) => "a d".to_owned(),
                Stroke::Mark(Some(colour)) => format!("s{} d", colour % COLOURS),
            };
            writeln!(
                out,
                "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
            )
        }
        Shape::Curve { colour, dashed, points } => {
            let mut way = String::new();
            for (x, y) in points {
                let _ = write!(way, "{}{x:.1} {y:.1}", if way.is_empty() { 'M' } else { 'L' });
            }
            let gaps = if *dashed { " d" } else { "" };
            writeln!(out, "<path class=\"l s{}{gaps}\" d=\"{way}\"/>", colour % COLOURS)
        }
        Shape::Bar { colour, at: (x, y), size: (width, height), about } => writeln!(
            out,
            "<rect class=\"f{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
            colour % COLOURS,
            escaped(about)
        ),
        Shape::Text { lettering, at: (x, y), anchor, text } => {
            let class = match lettering {
                Lettering::Title => "h",
                Lettering::Name => "v",
                Lettering::Mark => "t m",
                Lettering::Label => "t",
            };
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            writeln!(
                out,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
                escaped(text)
            )
        }
        Shape::Upright { at: (x, y), text } => writeln!(
            out,
            "<text class=\"t\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {x:.1} {y:.1})\">{}</text>",
            escaped(text)
        ),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_break_out_of_a_picture() {
        let mut picture = Picture::new(10.0, 10.0, "a & b");
        picture.text(Lettering::Label, (1.0, 2.0), Anchor::End, "<script>\"\u{1}");
        picture.bar(0, (0.0, 0.0), (-3.0, 1.0), "<b>");
        let text = file(&picture);
        assert!(
            text.contains("&lt;script&gt;&quot; ")
                && text.contains("&lt;b&gt;")
                && text.contains("a &amp; b")
        );
        assert!(text.contains("width=\"0.0\"") && text.contains("<style>"));
        assert!(!inline(&picture).contains("<style>"));
    }

    #[test]
    fn a_style_names_every_colour_for_light_and_for_dark() {
        let style = style();
        for colour in
            ["--paper:#ffffff;", "--paper:#0f1419;", "--c0:#0067a5;", "--c7:#6b7280}", "--c7:#a9b1bb}"]
        {
            assert_eq!(style.matches(colour).count(), 1, "{colour} in {style}");
        }
        assert!(
            style.contains(".t{fill:var(--soft);font-size:11px}")
                && style.contains(".d{stroke-dasharray:5 3}")
        );
        assert!(style.ends_with(".f7{fill:var(--c7)}"));
    }
}
