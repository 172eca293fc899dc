//! Pictures of each kind, decoded again: the size, the colours of the series where the numbers say, and every text where it stands.

use super::*;
use crate::report::chart::bars::{Bar, Bars, Group};
use crate::report::chart::plot::{Axis, Plot, Series, Upright};
use crate::report::chart::scale::Scale;

const LETTERS: [Lettering; 3] = [Lettering::Title, Lettering::Name, Lettering::Label];

fn decoded(picture: &Picture) -> Pixmap {
    let pixels = Pixmap::decode_png(&encoded(picture).unwrap()).unwrap();
    let of = |length: f64| (2.0 * length.round()) as u32;
    assert_eq!((pixels.width(), pixels.height()), (of(picture.width), of(picture.height)));
    assert!(pixels.pixels().iter().all(|pixel| pixel.alpha() == 255), "the paper is opaque");
    pixels
}

fn at(pixels: &Pixmap, (x, y): (f64, f64)) -> Rgb {
    let pixel = pixels.pixel((x * 2.0) as u32, (y * 2.0) as u32).unwrap();
    Rgb(pixel.red(), pixel.green(), pixel.blue())
}

/// Pixels of a colour.
fn count(pixels: &Pixmap, Rgb(red, green, blue): Rgb) -> usize {
    let same = |pixel: &&tiny_skia::PremultipliedColorU8| {
        (pixel.red(), pixel.green(), pixel.blue()) == (red, green, blue)
    };
    pixels.pixels().iter().filter(same).count()
}

fn plot(series: Vec<Series>) -> Plot {
    let axis = Axis { label: "share of requests", scale: Scale::from_zero(10.0) };
    let title = "Time to first token".to_owned();
    Plot { title, x: axis, y: axis, steps: false, series, lines: Vec::new() }
}

fn series(name: &str, colour: usize, points: &[(f64, f64)]) -> Series {
    Series { name: name.to_owned(), colour, dashed: false, points: points.to_vec() }
}

fn bars() -> Bars {
    let bar = |colour, to: f64| Bar {
        colour,
        span: (0.0, to),
        text: format!("{to:.1} % (12)"),
        about: "not drawn".to_owned(),
    };
    let group = |name: &str, to| Group { name: name.to_owned(), bars: vec![bar(0, to), bar(1, to / 2.0)] };
    Bars {
        title: "Share of the requests by worker".to_owned(),
        label: "% of the run's requests",
        groups: vec![group("127.0.0.1:31000", 100.0), group("127.0.0.1:31001", 0.0)],
        legend: vec![(0, "before".to_owned()), (1, "after".to_owned())],
    }
}

/// Where a text stands: left, top, right, bottom.
fn boxes<'a>(picture: &'a Picture) -> Vec<([f64; 4], &'a str)> {
    let fonts = Fonts::compiled_in().unwrap();
    let width = |lettering, text: &str| f64::from(fonts.line(lettering, text).width_px);
    let of = |shape: &'a Shape| match shape {
        Shape::Text { lettering, at: (x, y), anchor, text } => {
            let wide = width(*lettering, text);
            let left = x - f64::from(before(*anchor, wide as f32));
            // Of most letters; some go a little below the line.
            Some(([left, y - 0.72 * lettering.size_px(), left + wide, *y], text.as_str()))
        }
        Shape::Upright { at: (x, y), text } => {
            let half = width(Lettering::Label, text) / 2.0;
            Some(([x - 8.0, y - half, *x, y + half], text.as_str()))
        }
        _ => None,
    };
    picture.shapes.iter().filter_map(of).collect()
}

/// Every text is inside the picture, apart from all others, and there are letters where it stands.
pub(crate) fn can_be_read(picture: &Picture) {
    let pixels = decoded(picture);
    let boxes = boxes(picture);
    assert!(boxes.len() > 5, "{boxes:?}");
    for (n, ([left, top, right, bottom], text)) in boxes.iter().enumerate() {
        assert!(*left >= 0.0 && *top >= 0.0, "{text} {left} {top}");
        assert!(*right <= picture.width && *bottom <= picture.height, "{text} {right} {bottom}");
        let apart = |[l, t, r, b]: &[f64; 4]| r <= left || right <= l || b <= top || bottom <= t;
        for (other, of) in &boxes[..n] {
            assert!(apart(other), "{text} is over {of}");
        }
        let (across, down) =
            ((left * 2.0) as u32..(right * 2.0) as u32, (top * 2.0) as u32..(bottom * 2.0) as u32);
        let area = across.len() * down.len();
        let places = across.flat_map(|x| down.clone().map(move |y| (x, y)));
        let dark = places
            .filter(|(x, y)| pixels.pixel(*x, *y).is_some_and(|p| p.red() < 0xa0 && p.blue() < 0xb0))
            .count();
        assert!(dark * 20 > area, "{text}: {dark} dark pixels of {area}");
    }
}

#[test]
fn a_curve_has_its_colour_where_its_numbers_are() {
    let level = series("level", 1, &[(0.0, 5.0), (10.0, 5.0)]);
    let dashed = Series { dashed: true, ..series("dashed", 2, &[(0.0, 2.0), (10.0, 2.0)]) };
    let picture = plot(vec![level, dashed]).picture();
    let pixels = decoded(&picture);
    // The axes are 58 to 542 wide, and 210 high below the title and a line of legend.
    let (top, tall) = (30.0 + 17.0 + 8.0, 210.0);
    for x in [60.0, 200.0, 300.0, 540.0] {
        assert_eq!(at(&pixels, (x, top + tall / 2.0)), LIGHT.series[1], "{x}");
        assert_ne!(at(&pixels, (x, top + tall / 2.0 + 6.0)), LIGHT.series[1], "{x}");
    }
    let across =
        (60..540).filter(|x| at(&pixels, (f64::from(*x), top + tall * 0.8)) == LIGHT.series[2]).count();
    assert!((200..400).contains(&across), "five of eight pixels: {across}");
    assert_eq!(count(&pixels, LIGHT.series[3]), 0);
    can_be_read(&picture);
}

#[test]
fn a_bar_is_as_long_as_its_number_and_one_of_nothing_is_seen() {
    let picture = bars().picture();
    let pixels = decoded(&picture);
    let is = |colour: usize| move |pixel: Rgb| pixel == LIGHT.series[colour];
    // From 170 on, 294 wide; two lines of legend above.
    let row = 34.0 + 32.0 + 3.5 + 5.0;
    assert!(is(0)(at(&pixels, (460.0, row))) && is(1)(at(&pixels, (312.0, row + 13.0))));
    assert!(!is(0)(at(&pixels, (466.0, row))) && !is(1)(at(&pixels, (320.0, row + 13.0))));
    let (third, columns) = (row + 26.0 + 7.0, 0..4);
    assert!(columns.into_iter().any(|x| is(0)(at(&pixels, (170.0 + 0.5 * f64::from(x), third)))));
    can_be_read(&picture);
}

#[test]
fn a_mark_is_dashed_and_its_name_stands_beside_it() {
    let line = |x, name: &str, colour| Upright { x, name: name.to_owned(), colour };
    let lines =
        vec![line(2.0, "hang worker 2", None), line(3.0, "started again", Some(3)), line(9.0, "over", None)];
    let picture = Plot { lines, ..plot(vec![series("a", 0, &[(0.0, 0.0), (10.0, 0.1)])]) }.picture();
    assert!(count(&decoded(&picture), LIGHT.series[3]) > 100);
    can_be_read(&picture);
}

#[test]
fn a_picture_without_a_number_says_so() {
    for empty in [Vec::new(), vec![series("a", 0, &[])]] {
        let picture = plot(empty).picture();
        assert_eq!(count(&decoded(&picture), LIGHT.series[0]), 0);
        can_be_read(&picture);
    }
    decoded(&Bars { groups: Vec::new(), ..bars() }.picture());
}

#[test]
fn letters_that_the_font_has_not_are_boxes_and_spaces_are_nothing() {
    let fonts = Fonts::compiled_in().unwrap();
    for lettering in LETTERS {
        let box_px = fonts.line(lettering, "\u{10ffff}").width_px;
        let two_px = fonts.line(lettering, "\u{6ca1}\u{6709}").width_px;
        assert!((two_px - 2.0 * box_px).abs() < 1e-3 && box_px > 3.0);
        assert!(fonts.line(lettering, "\u{6ca1}").outline.is_some());
        // What titles, marks and ticks are written with.
        for own in "…–×≤±·µ%()".chars().chain('0'..='9').chain('a'..='z').chain('A'..='Z') {
            let one = own.to_string();
            let gone = fonts.line(lettering, &one).outline == fonts.line(lettering, "\u{10ffff}").outline;
            assert!(!gone, "{own} is a box");
        }
        let (spaces, controls) = (fonts.line(lettering, "  "), fonts.line(lettering, "\u{1}\n"));
        assert!(spaces.outline.is_none() && controls.outline.is_none());
        assert!((spaces.width_px - controls.width_px).abs() < 1e-6 && spaces.width_px > 2.0);
    }
    assert!(fonts.line(Lettering::Label, "").outline.is_none());
}

#[test]
fn widths_that_a_picture_is_laid_out_by_are_those_of_the_font() {
    use crate::report::chart::picture::width_px;
    let fonts = Fonts::compiled_in().unwrap();
    for text in [
        "127.0.0.1:31000",
        "client, from schedule",
        "cache_aware",
        "2026-11-22T13-24-44Z",
        "share of requests",
    ] {
        let (told, drawn) = (width_px(text), f64::from(fonts.line(Lettering::Label, text).width_px));
        assert!(drawn <= told * 1.02 && drawn > told * 0.75, "{text}: {told} {drawn}");
    }
}

#[test]
fn a_picture_of_no_size_is_refused_with_words() {
    let refused = encoded(&Picture::new(0.0, 10.0, "none")).unwrap_err();
    assert_eq!(refused.to_string(), "no PNG can have 0 x 20 pixels");
}
