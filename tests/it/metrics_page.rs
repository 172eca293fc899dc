//! Reads a metrics page: the text format, strictly.
//!
//! Rule: what a scraper would refuse or misread fails the test: a family told twice or in two places, a series twice, a
//! histogram whose buckets do not add up. Deliberately not here: what the numbers should be.

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::harness::PATIENCE;

/// One series: labels in the order of the page.
#[derive(Clone, Debug)]
pub struct Series {
    /// With `_bucket`, `_sum` or `_count` where it is a histogram's.
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// One family.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub series: Vec<Series>,
}

/// A page, by family name.
#[derive(Debug)]
pub struct Page(pub BTreeMap<String, Family>);

impl Page {
    /// The one value of `name` whose labels hold all of `labels`.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.values(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }

    /// All of them.
    pub fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |s: &Series| labels.iter().all(|(n, v)| s.labels.iter().any(|(ln, lv)| ln == n && lv == v));
        let all = self.0.values().flat_map(|f| &f.series);
        all.filter(|s| s.name == name && has(s)).map(|s| s.value).collect()
    }

    /// All series.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.0.values().flat_map(|f| &f.series)
    }

    /// Reads a page or fails.
    pub fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                name.clone_into(&mut current);
                let family = Family { help: help.to_owned(), ..Family::default() };
                assert!(families.insert(current.clone(), family).is_none(), "{name} is told twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                let family = families.get_mut(name).expect(line);
                assert!(name == current && family.kind.is_empty() && family.series.is_empty(), "{line}");
                kind.clone_into(&mut family.kind);
            } else {
                let series = sample(line);
                let family = families.get_mut(&current).expect(line);
                assert!(belongs(&series.name, &current, &family.kind), "{line} is not of {current}");
                family.series.push(series);
            }
        }
        let page = Self(families);
        page.check();
        page
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for series in self.series() {
            assert!(seen.insert((series.name.clone(), series.labels.clone())), "twice: {series:?}");
        }
        for (name, family) in self.0.iter().filter(|(_, f)| f.kind == "histogram") {
            assert!(!family.series.is_empty(), "{name} is empty");
            let mut last = 0.0;
            for s in &family.series {
                if s.name.ends_with("_bucket") {
                    assert!(s.value >= last, "{name} is not cumulative: {s:?}");
                    last = s.value;
                } else if s.name.ends_with("_count") {
                    assert!((s.value - last).abs() < 0.5, "{name}: +Inf is not the count: {s:?}");
                    last = 0.0;
                }
            }
        }
    }
}

fn belongs(series: &str, family: &str, kind: &str) -> bool {
    let suffix = series.strip_prefix(family);
    if kind == "histogram" {
        matches!(suffix, Some("_bucket" | "_sum" | "_count"))
    } else {
        suffix == Some("")
    }
}

/// `name{label="value",..} number`
fn sample(line: &str) -> Series {
    let (before, value) = line.rsplit_once(' ').expect(line);
    let value: f64 = value.parse().expect(line);
    let Some((name, rest)) = before.split_once('{') else {
        return Series { name: before.to_owned(), labels: Vec::new(), value };
    };
    let mut rest = rest.strip_suffix('}').expect(line);
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect(line);
        let (text, after) = unquote(quoted);
        labels.push((label.trim_start_matches(',').to_owned(), text));
        rest = after;
    }
    Series { name: name.to_owned(), labels, value }
}

/// The value up to its closing quote, and what follows that.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => match chars.next().expect(quoted).1 {
                'n' => text.push('\n'),
                c @ ('"' | '\\') => text.push(c),
                c => panic!("\\{c} in {quoted}"),
            },
            c => text.push(c),
        }
    }
    panic!("no closing quote: {quoted}")
}

/// Asks for `path` over a fresh connection; status line and headers, and the body.
pub async fn get(mut io: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n");
    let exchange = async {
        io.write_all(request.as_bytes()).await.unwrap();
        let mut all = String::new();
        io.read_to_string(&mut all).await.unwrap();
        all
    };
    let all = tokio::time::timeout(PATIENCE, exchange).await.expect("a page in time");
    let (head, body) = all.split_once("\r\n\r\n").expect("a whole response");
    (head.to_owned(), body.to_owned())
}
