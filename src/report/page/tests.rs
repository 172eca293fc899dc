//! The page as a whole: what is in it, and that nothing gets out of it.

use super::*;
use crate::load::failure::{Class, Failure};
use crate::load::row::{Row, example};
use crate::report::gather::{Gathering, Side};
use crate::report::marks::Mark;
use crate::report::read::Facts;
use crate::report::recount;

fn arm(name: &str, rows: &[Row]) -> Arm {
    let mut gathering = Gathering::bounded(Side::Client).drawn();
    for row in rows {
        gathering.add(row);
    }
    let facts = Facts { said: vec![("Target", "http://<b>".to_owned())], ..Facts::default() };
    Arm { name: name.to_owned(), from: "requests.csv".to_owned(), facts, gathered: gathering.gathered() }
}

fn some_rows() -> Vec<Row> {
    let other = || Row { host: Some("w2".to_owned()), ..example() };
    vec![example(), other(), Row { failure: Some(Failure::new(Class::Reset, "</style>")), ..other() }]
}

#[test]
fn a_page_has_every_chart_and_needs_nothing_else() {
    let arms = [arm("a<1>", &some_rows()), arm("b", &some_rows())];
    let files: Vec<String> = charts(&arms).into_iter().map(|c| c.file).collect();
    for file in
        ["throughput", "tokens", "latency", "ttft", "concurrency", "running", "share", "ttft-by-worker-b"]
    {
        assert!(files.iter().any(|f| f == file), "{file} in {files:?}");
    }
    assert!(
        files.contains(&"timeline-median-a-1-".to_owned())
            && files.contains(&"timeline-slowest-b".to_owned())
    );
    let page = page(&arms);
    assert_eq!(page.matches("<svg").count(), files.len());
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for needless in ["<script", "<link", "src=", "href", "@import", "url("] {
        assert!(!page.contains(needless), "{needless}");
    }
    assert!(page.contains("a&lt;1&gt;") && !page.contains("a<1>") && !page.contains("http://<b>"));
    assert!(page.contains("prefers-color-scheme:dark"));
    // Every number that is drawn stands in a table.
    assert!(page.contains("66.7 %") && page.contains("<td>61.00</td>"));
}

#[test]
fn charts_over_time_show_what_happened_and_no_other_chart_does() {
    let mut arms = [arm("a", &some_rows())];
    arms[0].facts.marks = vec![Mark { at_s: 0.5, label: "hang <worker> 1".to_owned() }];
    let marked: Vec<String> = charts(&arms)
        .into_iter()
        .filter(|chart| inline(&chart.picture).contains("hang &lt;worker&gt; 1"))
        .map(|chart| chart.file)
        .collect();
    assert_eq!(marked, ["throughput", "tokens", "concurrency", "running"]);
}

#[test]
fn a_policy_that_a_file_names_is_text_and_no_markup() {
    let rows = [Row { policy: Some("<img onerror=x>".to_owned()), ..example() }];
    let page = page(&[arm("a", &rows)]);
    assert!(page.contains("&lt;img onerror=x&gt;") && !page.contains("<img"));
}

#[test]
fn runs_are_called_by_what_tells_them_apart() {
    let of = |names: &[&str]| {
        let mut arms: Vec<Arm> = names.iter().map(|name| arm(name, &some_rows())).collect();
        recount::shorten(&mut arms);
        arms.into_iter().map(|arm| arm.name).collect::<Vec<_>>()
    };
    // All of one policy: the part of the names that differs.
    let dated = ["2026-11-22T13-24-44Z-random-8rps", "2026-11-22T13-25-59Z-random-8rps"];
    assert_eq!(of(&dated), ["24-44Z", "25-59Z"]);
    assert_eq!(of(&["a-x", "a-x-y"]), ["x", "x-y"]);
    assert_eq!(of(&["run-1"]), ["run-1"]);
    let with = |policy: &str| arm("same-name", &[Row { policy: Some(policy.to_owned()), ..example() }]);
    let mut arms = [with("random"), with("cache_aware")];
    recount::shorten(&mut arms);
    assert_eq!(arms.map(|arm| arm.name), ["random", "cache_aware"]);
}

#[test]
fn a_run_in_which_nothing_succeeded_has_a_page_too() {
    let failed = Row {
        failure: Some(Failure::new(Class::Connect, "refused")),
        host: None,
        sent_ns: None,
        client_end_ns: None,
        ..Row::default()
    };
    let arms = [arm("none", &[failed])];
    assert!(charts(&arms).is_empty());
    assert!(page(&arms).contains("0.0 %"));
    assert!(recount::summary(&arms[0]).contains("connect:") && recount::compared(&arms).contains("none"));
    assert!(page(&[arm("empty", &[])]).contains("</html>"));
}

#[test]
fn the_summary_of_files_says_what_it_is_and_fits_its_width() {
    let arms = [arm("a", &some_rows()), arm("a-name-that-is-longer-than-a-column", &some_rows())];
    let text = recount::summary(&arms[0]);
    for words in [
        "milepost report",
        "Read from:",
        "Successful requests:",
        "By worker",
        "Where the time went",
        "note: SIMULATED",
    ] {
        assert_eq!(text.contains(words), words != "note: SIMULATED", "{words} in {text}");
    }
    let side = recount::compared(&arms);
    assert!(side.contains("…than-a-column"), "{side}");
    let widest = side.lines().map(|l| l.chars().count()).max().unwrap();
    assert!(widest <= crate::report::lines::WIDTH, "{side}");
}

#[cfg(feature = "png")]
#[test]
fn every_chart_can_be_read_as_png_too() {
    let mut arms =
        [arm("before the change", &some_rows()), arm("2026-11-22T13-24-44Z-random-8rps", &some_rows())];
    arms[0].facts.marks = vec![Mark { at_s: 0.01, label: "hang worker 1".to_owned() }];
    let one = charts(&arms[1..]);
    assert!(one.len() >= 8 && one.iter().any(|chart| chart.file == "timeline-median"));
    for chart in one.iter().chain(&charts(&arms)) {
        crate::report::chart::png::tests::can_be_read(&chart.picture);
    }
}
