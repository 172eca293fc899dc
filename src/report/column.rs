//! `--column name=expr`: a metric of one's own, of one expression over the cells of a row.
//!
//! Rule: names are the CSV's, times in its seconds; a name that is none is told before anything is sent. Figures are over successful
//! requests; a failed one has its cell in the CSV alone. An expression that cannot be computed of a row gives an empty cell, and how
//! often that was and why stands beside the figures. Deliberately not here: the language (`milepost_policies::script`).

use milepost_policies::script::{Formula, Known};
use serde_json::{Map, Value, json};

use super::cell::Cell;
use super::csv::{COLUMNS, cells};
use super::gather::Distribution;
use super::lines::{LABEL, Lines, figure};
use super::stats::Summary;
use crate::load::config::OwnColumn;
use crate::load::row::Row;

/// Reads `name=expr`, and tries to compile it.
///
/// # Errors
/// It has no name of its own, or is no expression over the CSV's columns; the message says where.
pub fn parse(text: &str) -> Result<OwnColumn, String> {
    let (name, expression) = text
        .split_once('=')
        .ok_or_else(|| format!("expected NAME=EXPRESSION such as ttft_ms=ttft*1000, got {text}"))?;
    let (name, expression) = (name.trim(), expression.trim());
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(good) {
        return Err(format!("{name:?} is no name: expected letters from a to z, digits and _"));
    }
    if COLUMNS.contains(&name) {
        return Err(format!("{name} is a column that is there already"));
    }
    let own = OwnColumn { name: name.to_owned(), expression: expression.to_owned() };
    compile(&own).map(|_| own).map_err(|e| format!("{name}: {e}; its names are the columns of requests.csv"))
}

fn compile(own: &OwnColumn) -> Result<Formula, String> {
    Formula::compile(&own.expression, &COLUMNS).map_err(|e| e.to_string())
}

/// All of a run's own columns, compiled.
#[derive(Debug, Default)]
pub struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    own: OwnColumn,
    formula: Result<Formula, String>,
    samples: Distribution,
    failed: u64,
    /// The first failure.
    why: Option<String>,
}

/// One column over the successful requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// What was asked for.
    pub own: OwnColumn,
    /// Over the rows of which it could be computed.
    pub summary: Option<Summary>,
    /// Rows of which it could not.
    pub failed: u64,
    /// Why not, of the first.
    pub why: Option<String>,
}

impl Columns {
    /// To be computed row by row.
    pub fn of(own: &[OwnColumn]) -> Self {
        let column = |own: &OwnColumn| Column {
            own: own.clone(),
            formula: compile(own),
            samples: Distribution::default(),
            failed: 0,
            why: None,
        };
        Self(own.iter().map(column).collect())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|column| column.own.name.as_str())
    }

    /// The values of one row, in order.
    pub fn values(&mut self, row: &Row) -> Vec<Option<f64>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let cells = cells(row);
        self.0.iter_mut().map(|column| column.value(&cells).ok()).collect()
    }

    /// Takes a row where it is a successful request, as all figures of latency are of these.
    pub(super) fn add(&mut self, row: &Row) {
        if self.0.is_empty() || !row.success() {
            return;
        }
        let cells = cells(row);
        self.0.iter_mut().for_each(|column| column.add(&cells));
    }

    /// Samples that are kept one by one.
    pub(super) fn kept(&self) -> usize {
        self.0.iter().map(|column| column.samples.kept()).sum()
    }

    /// Lets the samples of a column go where there are more than `most`.
    pub(super) fn shrink(&mut self, most: usize) {
        self.0.iter_mut().for_each(|column| column.samples.shrink(most));
    }

    /// The figures over the rows taken.
    pub fn figures(self) -> Vec<Figures> {
        let of = |column: Column| Figures {
            own: column.own,
            summary: column.samples.summary(),
            failed: column.failed,
            why: column.why,
        };
        self.0.into_iter().map(of).collect()
    }
}

impl Column {
    fn value(&mut self, cells: &[Cell<'_>; COLUMNS.len()]) -> Result<f64, String> {
        let known = |place: usize| match &cells[place] {
            Cell::Text(text) if !text.is_empty() => Known::Text(text),
            Cell::Nothing | Cell::Text(_) => Known::Nothing,
            Cell::Truth(truth) => Known::Truth(*truth),
            Cell::Count(count) => Known::Number(*count as f64),
            Cell::Nanos(ns) => Known::Number(*ns as f64 / 1e9),
        };
        self.formula.as_mut().map_err(|e| e.clone()).and_then(|formula| formula.value(known))
    }

    fn add(&mut self, cells: &[Cell<'_>; COLUMNS.len()]) {
        match self.value(cells) {
            Ok(value) => self.samples.add(value, 1),
            Err(why) => {
                self.failed += 1;
                self.why.get_or_insert(why);
            }
        }
    }
}

/// For `run.json`, by name.
pub fn to_json(figures: &[Figures]) -> Value {
    let one = |f: &Figures| {
        json!({
            "expression": f.own.expression,
            "figures": f.summary,
            "failed": f.failed,
            "first_failure": f.why,
        })
    };
    Value::Object(figures.iter().map(|f| (f.own.name.clone(), one(f))).collect::<Map<_, _>>())
}

/// As a table of the summary.
pub fn print(out: &mut Lines, figures: &[Figures]) {
    if figures.is_empty() {
        return;
    }
    out.rule('-', " Columns of your own ");
    out.line(&format!(
        "{:<LABEL$}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}",
        "", "mean", "median", "p90", "p99", "n", "failed"
    ));
    for f in figures {
        let of = |value: fn(&Summary) -> f64| {
            f.summary.as_ref().map_or_else(|| "-".to_owned(), |s| figure(value(s)))
        };
        out.line(&format!(
            "{:<LABEL$}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}",
            f.own.name,
            of(|s| s.mean),
            of(|s| s.median),
            of(|s| s.p90),
            of(|s| s.p99),
            f.summary.map_or(0, |s| s.count),
            f.failed
        ));
        if let Some(why) = &f.why {
            out.wrapped("  first failure: ", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;

    #[test]
    fn an_expression_is_a_metric_and_its_failures_are_counted() {
        let own = [parse("ttft_a_token = ttft * 1000 / actual_prompt_tokens").unwrap()];
        let failed = Row { failure: Some(Failure::new(Class::Timeout, "late")), ttft_ns: None, ..example() };
        let rows = [example(), Row { prompt_tokens: None, ..example() }, failed];
        let mut columns = Columns::of(&own);
        for row in &rows {
            columns.add(row);
        }
        let told = columns.figures();
        assert_eq!((told[0].summary.unwrap().mean, told[0].failed), (7.0, 1));
        let mut out = Lines::default();
        print(&mut out, &told);
        assert!(out.0.contains("ttft_a_token") && out.0.contains("first failure"), "{}", out.0);
        let json = to_json(&told);
        assert_eq!(
            (&json["ttft_a_token"]["failed"], &json["ttft_a_token"]["figures"]["count"]),
            (&json!(1), &json!(1))
        );
    }

    #[test]
    fn what_is_no_column_is_told_with_its_name_and_place() {
        for (bad, words) in [
            ("ttft", "expected NAME=EXPRESSION"),
            ("ttft=1", "there already"),
            ("My Name=1", "is no name"),
            ("x=ttft + nothing", "x: line 1, column 8"),
            ("x=", "x: "),
        ] {
            let told = parse(bad).unwrap_err();
            assert!(told.contains(words), "{bad}: {told}");
        }
    }

    #[test]
    fn texts_and_truths_are_values_too() {
        let own = [parse("here=host == \"127.0.0.1:31000\" && success").unwrap()];
        assert_eq!(Columns::of(&own).values(&example()), [Some(1.0)]);
    }
}
