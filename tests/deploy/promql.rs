//! Looks at an expression of Prometheus as far as names go: series, label matchers, labels that are grouped by.
//!
//! Rule: an identifier is a series, a function or a word of the language, or the expression is refused; a series must be one
//! that a router shows, with labels that it has and values that it can have. Deliberately not here: the rest of the grammar.

use std::collections::BTreeSet;

use milepost::admin::metrics::catalogue::{self, Family, Kind};
use milepost::trace::record::Outcome;

/// Words that are no series.
const LANGUAGE: &[&str] = &[
    "absent",
    "and",
    "avg",
    "bool",
    "by",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "offset",
    "on",
    "or",
    "rate",
    "sum",
    "unless",
    "without",
    "label_values",
];

/// Labels that Prometheus adds to every series.
const SCRAPED: &[&str] = &["instance", "job"];

/// Labels whose values are words that the family's meaning tells.
const TOLD: &[&str] = &["kind", "result", "error_type"];

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// What an expression is about.
#[derive(Debug, Default)]
pub struct Expression {
    /// Labels that its result may have.
    pub labels: BTreeSet<String>,
    /// Families it asks for.
    pub families: Vec<&'static str>,
}

/// Reads an expression; an error says what in it no router has.
pub fn read(text: &str) -> Result<Expression, String> {
    let tokens = tokens(text)?;
    balanced(&tokens)?;
    let mut found = Expression::default();
    let mut grouped = Vec::new();
    let mut has: BTreeSet<String> = SCRAPED.iter().map(ToString::to_string).collect();
    let mut at = 0;
    while at < tokens.len() {
        let Token::Word(word) = &tokens[at] else {
            at += 1;
            continue;
        };
        at += 1;
        if matches!(word.as_str(), "by" | "on") {
            let (names, next) = group(&tokens, at)?;
            grouped.extend(names);
            at = next;
        } else if word == "up" {
            (_, at) = matchers(&tokens, at)?;
        } else if let Some(family) = family(word) {
            found.families.push(family.name);
            let (pairs, next) = matchers(&tokens, at)?;
            pairs.iter().try_for_each(|(label, value)| matcher(family, label, value))?;
            has.extend(family.labels.iter().map(ToString::to_string));
            if word.ends_with("_bucket") {
                has.insert("le".to_owned());
            }
            at = next;
        } else if !LANGUAGE.contains(&word.as_str()) {
            return Err(format!("{word} is no series of the router and no word of PromQL"));
        }
    }
    if let Some(label) = grouped.iter().find(|label| !has.contains(*label)) {
        return Err(format!("{label} is grouped by, but no series in it has that label"));
    }
    found.labels = if grouped.is_empty() { has } else { grouped.into_iter().collect() };
    Ok(found)
}

/// The family that a name in a query belongs to: a histogram is asked for by `_bucket`, `_sum` and `_count` alone.
fn family(word: &str) -> Option<&'static Family> {
    catalogue::all().find(|family| match family.kind {
        Kind::Histogram => {
            matches!(word.strip_prefix(family.name), Some("_bucket" | "_sum" | "_count"))
        }
        _ => family.name == word,
    })
}

/// A matcher on a label that the family has, with a value that it can have.
fn matcher(family: &Family, label: &str, value: &str) -> Result<(), String> {
    if SCRAPED.contains(&label) {
        return Ok(());
    }
    if !family.labels.contains(&label) {
        return Err(format!("{} has no label {label}", family.name));
    }
    let words: Vec<&str> = family.meaning.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let can = match label {
        "outcome" => Outcome::ALL.iter().any(|o| o.name() == value) || value == "failed_attempt",
        "agrees" => matches!(value, "true" | "false"),
        _ => !TOLD.contains(&label) || words.contains(&value),
    };
    if can { Ok(()) } else { Err(format!("{label} of {} is never {value}", family.name)) }
}

/// `(a, b)` from here on.
fn group(tokens: &[Token], at: usize) -> Result<(Vec<String>, usize), String> {
    let end = tokens[at..].iter().position(|t| *t == Token::Sign(')')).ok_or("by without a list")? + at;
    let words = tokens[at..end].iter().filter_map(|t| match t {
        Token::Word(word) => Some(word.clone()),
        _ => None,
    });
    Ok((words.collect(), end + 1))
}

/// `{label="value", ..}` and `[5m]` from here on, if they are there.
fn matchers(tokens: &[Token], at: usize) -> Result<(Vec<(String, String)>, usize), String> {
    let (mut pairs, mut next) = (Vec::new(), at);
    if tokens.get(next) == Some(&Token::Sign('{')) {
        let end =
            tokens[next..].iter().position(|t| *t == Token::Sign('}')).ok_or("no closing brace")? + next;
        for pair in tokens[next + 1..end].split(|t| *t == Token::Sign(',')) {
            match (pair.first(), pair.last()) {
                (Some(Token::Word(label)), Some(Token::Text(value))) => {
                    pairs.push((label.clone(), value.clone()));
                }
                _ => return Err(format!("{pair:?} is no matcher")),
            }
        }
        next = end + 1;
    }
    if tokens.get(next) == Some(&Token::Sign('[')) {
        next = tokens[next..].iter().position(|t| *t == Token::Sign(']')).ok_or("no closing bracket")?
            + next
            + 1;
    }
    Ok((pairs, next))
}

fn balanced(tokens: &[Token]) -> Result<(), String> {
    let mut open = Vec::new();
    for token in tokens {
        match token {
            Token::Sign(sign @ ('(' | '[' | '{')) => open.push(*sign),
            Token::Sign(sign @ (')' | ']' | '}')) => {
                let fits =
                    matches!((open.pop(), sign), (Some('('), ')') | (Some('['), ']') | (Some('{'), '}'));
                if !fits {
                    return Err(format!("{sign} closes nothing"));
                }
            }
            _ => (),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} is not closed")) }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let length = if c == '"' {
            let end = rest[1..].find('"').ok_or("no closing quote")?;
            found.push(Token::Text(rest[1..=end].to_owned()));
            end + 2
        } else if c.is_ascii_alphabetic() || c == '_' {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            end
        } else if c.is_ascii_digit() || c == '$' {
            // A number, a duration or a variable of Grafana: none of them names anything.
            rest[1..].find(|c: char| !is_word(c) && c != '.').map_or(rest.len(), |end| end + 1)
        } else {
            found.push(Token::Sign(c));
            c.len_utf8()
        };
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

#[test]
fn what_no_router_has_is_refused() {
    let good =
        read(r#"sum by (worker) (rate(milepost_worker_tokens_total{kind="cached"}[5m] offset 1d)) > 0.5"#);
    assert_eq!(good.unwrap().families, ["milepost_worker_tokens_total"]);
    for (bad, why) in [
        ("milepost_worker_tokens", "no series"),
        ("milepost_ttft_seconds", "no series"),
        ("rate(milepost_ttft_seconds_bucket[5m]", "not closed"),
        ("sum by (worker) (milepost_requests_in_flight)", "grouped by"),
        (r#"smg_worker_health{model="a"}"#, "no label model"),
        (r#"milepost_worker_tokens_total{kind="cache"}"#, "never cache"),
        (r#"milepost_requests_ended_total{outcome="fine"}"#, "never fine"),
        ("quantile_over(1)", "quantile_over"),
    ] {
        let said = read(bad).unwrap_err();
        assert!(said.contains(why), "{bad}: {said}");
    }
}
