//! `GET /engine_metrics`: the `/metrics` of all workers on one page.
//!
//! Rule: valid text format whatever the workers sent: each family once with one HELP and one TYPE, every sample with a
//! `worker_addr`, colons of names as underscores (sglang-router's form). A line that is no sample is left out, and so is a
//! family of another type than the first worker gave it. The page is limited; which workers did not fit, or did not answer, is
//! a comment. Deliberately not here: the router's own metrics, which have a port of their own.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::HeaderValue;
use http::Response;

use super::errand::{Errand, no_workers};
use super::fan_out::{ask_all, servers};
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Refusal;
use crate::wire::exposition::{Sample, is_name};

/// Longest wait for one worker.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer of one worker.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Largest page.
const MAX_PAGE_BYTES: usize = 64 * 1024 * 1024;
/// What the samples of a family may add to its name.
const SUFFIXES: [&str; 5] = ["_bucket", "_sum", "_count", "_total", "_created"];

/// Asks all workers and puts their answers together.
pub async fn merged(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let workers = servers(errand.shared);
    if workers.is_empty() {
        return Err(no_workers());
    }
    let mut question = errand.question("/metrics", TIMEOUT);
    question.max_answer_bytes = MAX_ANSWER_BYTES;
    let mut asked = ask_all(errand.shared, workers, &question);
    let mut page = Page::default();
    // As they come, so that no more than the page and the answers under way are in memory.
    while let Some(heard) = asked.next().await {
        let url = heard.worker.url.as_str();
        match &heard.answer {
            Ok(answer) if answer.status.is_success() => {
                page.add(url, &String::from_utf8_lossy(&answer.body), MAX_PAGE_BYTES);
            }
            Ok(answer) => page.miss(url, &format!("status {}", answer.status.as_u16())),
            Err(error) => page.miss(url, error),
        }
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(super::with_type(200, page.text(), content_type))
}

/// The families of all workers.
#[derive(Default)]
struct Page {
    families: Vec<Family>,
    by_name: HashMap<String, usize>,
    bytes: usize,
    missing: Vec<String>,
}

struct Family {
    name: String,
    help: String,
    kind: String,
    samples: String,
}

impl Page {
    /// A worker that is not on the page.
    fn miss(&mut self, url: &str, why: &str) {
        self.missing.push(format!("# no metrics of {url}: {}\n", why.replace(['\n', '\r'], " ")));
    }

    /// Adds what one worker said, unless that could make the page too large.
    fn add(&mut self, url: &str, text: &str, max_bytes: usize) {
        let label = format!("worker_addr=\"{}\"", url.replace('\\', "\\\\").replace('"', "\\\""));
        // Each sample grows by the label, a comma and perhaps braces.
        let growth = text.lines().filter(|line| !line.starts_with('#')).count() * (label.len() + 3);
        if self.bytes + text.len() + growth > max_bytes {
            return self.miss(url, "the page is full");
        }
        self.bytes += text.len() + growth;
        // The family that the samples which follow belong to, by name and whether its type agrees.
        let mut current: Option<(usize, bool)> = None;
        let mut help = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split_once(' ').unwrap_or((rest, ""));
            } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|r| r.split_once(' ')) {
                current = is_name(name).then(|| {
                    let at = self.family(name, kind.trim(), if help.0 == name { help.1 } else { "" });
                    (at, self.families[at].kind == kind.trim())
                });
            } else if let Some(sample) = Sample::parse(line) {
                let name = sample.name.replace(':', "_");
                let (at, agrees) = match current {
                    Some((at, agrees)) if self.families[at].has(&name) => (at, agrees),
                    _ => {
                        let at = self.family(sample.name, "untyped", "");
                        (at, self.families[at].kind == "untyped")
                    }
                };
                if agrees {
                    write(&mut self.families[at].samples, &name, &sample, &label);
                }
            }
        }
    }

    /// The family of this name, which is made if there is none.
    fn family(&mut self, name: &str, kind: &str, help: &str) -> usize {
        let name = name.replace(':', "_");
        if let Some(at) = self.by_name.get(&name) {
            return *at;
        }
        let at = self.families.len();
        self.by_name.insert(name.clone(), at);
        let (help, kind) = (help.to_owned(), kind.to_owned());
        self.families.push(Family { name, help, kind, samples: String::new() });
        at
    }

    fn text(mut self) -> String {
        self.families.sort_by(|a, b| a.name.cmp(&b.name));
        self.missing.sort();
        let mut out = self.missing.concat();
        for family in self.families.iter().filter(|family| !family.samples.is_empty()) {
            let Family { name, help, kind, samples } = family;
            // Writing to a String cannot fail.
            if !help.is_empty() {
                let _ = writeln!(out, "# HELP {name} {help}");
            }
            let _ = writeln!(out, "# TYPE {name} {kind}");
            out.push_str(samples);
        }
        out
    }
}

impl Family {
    fn has(&self, sample: &str) -> bool {
        sample
            .strip_prefix(self.name.as_str())
            .is_some_and(|rest| rest.is_empty() || SUFFIXES.contains(&rest))
    }
}

/// Writes a sample under its family's form of its name, with the label that says whose it is.
fn write(out: &mut String, name: &str, sample: &Sample<'_>, label: &str) {
    out.push_str(name);
    out.push('{');
    // A router behind this one has said which worker it was.
    let told = sample.labels.starts_with("worker_addr=") || sample.labels.contains(",worker_addr=");
    if !told {
        out.push_str(label);
    }
    if !told && !sample.labels.is_empty() {
        out.push(',');
    }
    out.push_str(sample.labels);
    out.push_str("} ");
    out.push_str(sample.value);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_page_is_valid_whatever_workers_say(
            pages in prop::collection::vec(prop::collection::vec(line(), 0..12), 0..4)
        ) {
            let mut page = Page::default();
            for (i, lines) in pages.iter().enumerate() {
                page.add(&format!("http://w{i}:1"), &lines.join("\n"), 100_000);
            }
            let text = page.text();
            let mut families = std::collections::HashSet::new();
            let mut family = String::new();
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    family = rest.split(' ').next().unwrap().to_owned();
                    prop_assert!(families.insert(family.clone()), "{family} twice in {text}");
                } else if !line.starts_with('#') {
                    let sample = Sample::parse(line).expect("a sample");
                    prop_assert!(sample.labels.contains("worker_addr=") && !sample.name.contains(':'));
                    prop_assert!(sample.name.starts_with(&family), "{line} in {family}");
                }
            }
        }
    }

    /// Lines of an exposition, right and wrong.
    fn line() -> impl Strategy<Value = String> {
        let name = "[ab:]{1,2}(_sum|_bucket)?";
        prop_oneof![
            (name, "gauge|counter|histogram").prop_map(|(n, k)| format!("# TYPE {n} {k}")),
            name.prop_map(|n| format!("# HELP {n} words")),
            (name, "(l=\"[}{,\\\\a]{0,3}\",?)?", "[0-9]{1,3}( 17)?")
                .prop_map(|(n, l, v)| format!("{n}{{{l}}} {v}")),
            "[ab_]{1,2} ([0-9.]{1,3}|NaN|x)",
            "\\PC{0,12}",
        ]
    }

    fn page(of: &[(&str, &str)], max_bytes: usize) -> String {
        let mut page = Page::default();
        for (url, text) in of {
            page.add(url, text, max_bytes);
        }
        page.text()
    }

    #[test]
    fn families_come_once_and_samples_say_whose_they_are() {
        let a = "# HELP sglang:x X, of course.\n# TYPE sglang:x gauge\nsglang:x{a=\"b\"} 1.0\n\
                 # HELP sglang:h H.\n# TYPE sglang:h histogram\nsglang:h_bucket{le=\"+Inf\"} 1\nsglang:h_sum 1\nsglang:h_count 1\n";
        let b = "# HELP sglang:x X, of course.\n# TYPE sglang:x gauge\nsglang:x{} 2 1700000000000\n";
        let expected = "# HELP sglang_h H.\n# TYPE sglang_h histogram\n\
             sglang_h_bucket{worker_addr=\"http://a:1\",le=\"+Inf\"} 1\nsglang_h_sum{worker_addr=\"http://a:1\"} 1\n\
             sglang_h_count{worker_addr=\"http://a:1\"} 1\n\
             # HELP sglang_x X, of course.\n# TYPE sglang_x gauge\nsglang_x{worker_addr=\"http://a:1\",a=\"b\"} 1.0\n\
             sglang_x{worker_addr=\"http://b:1\"} 2 1700000000000\n";
        assert_eq!(page(&[("http://a:1", a), ("http://b:1", b)], 10_000), expected);
    }

    #[test]
    fn what_is_no_sample_or_contradicts_is_left_out() {
        let a = "# TYPE x gauge\nx 1\n";
        let b = "# TYPE x counter\nx 2\nx{a=\"1\n{} 1\nx\nx one\nx 1 2 3\n9x 1\n<html>\ny{q=\"}\\\"{\",} 3\n";
        let text = page(&[("u", a), ("v", b)], 10_000);
        assert_eq!(
            text,
            "# TYPE x gauge\nx{worker_addr=\"u\"} 1\n\
             # TYPE y untyped\ny{worker_addr=\"v\",q=\"}\\\"{\"} 3\n"
        );
    }

    #[test]
    fn a_page_is_limited_and_says_whom_it_left_out() {
        let text = page(&[("http://a:1", "x 1\n"), ("http://b:1", "x 2\n")], 40);
        assert!(text.starts_with("# no metrics of http://b:1: the page is full\n"), "{text}");
        assert!(text.contains("x{worker_addr=\"http://a:1\"} 1\n") && !text.contains("} 2"), "{text}");
    }

    #[test]
    fn a_sample_that_names_its_worker_keeps_that_name() {
        let text = page(
            &[("r", "x{worker_addr=\"http://w:1\",b=\"1\"} 1\nx{a=\"1\",worker_addr=\"w\"} 2\n")],
            1_000,
        );
        assert!(
            text.contains("x{worker_addr=\"http://w:1\",b=\"1\"} 1\nx{a=\"1\",worker_addr=\"w\"} 2\n"),
            "{text}"
        );
    }
}
