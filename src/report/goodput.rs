//! Goodput: the requests that met every limit asked for.
//!
//! Rule: syntax, names and meaning of `ttft`, `tpot` and `e2el` are `bench_serving`'s: at the client, from the send; a request
//! with fewer than two tokens meets any TPOT, a failed one meets nothing. Any other quantity of the table with one value a
//! request may be named too. What an answer does not tell is not met, and how many there are is said. Requests that Ctrl-C took
//! or that were never sent are not judged. Deliberately not here: the search for a rate.

use serde_json::{Map, Value, json};

use super::interval::wilson;
use super::lines::{Lines, figure};
use super::quantity::{self, Quantity, named};
use crate::load::failure::Class;
use crate::load::row::Row;

/// `bench_serving`'s names.
const SHORT: [(&str, &str); 3] =
    [("ttft", "ttft_client"), ("tpot", "tpot_client"), ("e2el", "client_latency")];

/// A limit for one quantity.
#[derive(Clone, Copy, Debug)]
pub struct Slo {
    /// As it was asked for.
    pub name: &'static str,
    quantity: &'static Quantity,
    /// Most that is good, in the quantity's unit.
    pub limit: f64,
}

impl Slo {
    /// All that `--goodput` was given; each name once.
    ///
    /// # Errors
    /// In words what is wrong.
    pub fn all(texts: &[String]) -> Result<Vec<Self>, String> {
        let mut slos: Vec<Self> = Vec::new();
        for text in texts {
            let slo = Self::parse(text).map_err(|e| format!("--goodput: {e}"))?;
            if slos.iter().any(|earlier| earlier.name == slo.name) {
                return Err(format!("--goodput: {} has two limits", slo.name));
            }
            slos.push(slo);
        }
        Ok(slos)
    }

    /// `NAME:LIMIT`.
    ///
    /// # Errors
    /// In words what is wrong, with the names that there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((name, limit)) = text.split_once(':') else {
            return Err(format!("expected NAME:MILLISECONDS such as ttft:200, got {text}"));
        };
        let short = SHORT.into_iter().find(|(short, _)| *short == name);
        let found = match short {
            Some((short, long)) => named(long).map(|q| (short, q)),
            None => named(name).filter(|q| matches!(q.value, quantity::Value::One(_))).map(|q| (q.name, q)),
        };
        let Some((name, quantity)) = found else {
            return Err(format!("no quantity {name:?} with one value a request; there are {}", names()));
        };
        match limit.parse::<f64>() {
            Ok(limit) if limit.is_finite() && limit > 0.0 => Ok(Self { name, quantity, limit }),
            _ => Err(format!("{name}: expected a number above 0, got {limit:?}")),
        }
    }

    /// `None`: the row does not tell.
    fn met(&self, row: &Row) -> Option<bool> {
        let none_to_time = self.quantity.name.starts_with("tpot") && row.tokens_after_first() == Some(0);
        if none_to_time { Some(true) } else { self.quantity.value(row).map(|v| v <= self.limit) }
    }
}

fn names() -> String {
    let long = quantity::all().filter(|q| matches!(q.value, quantity::Value::One(_))).map(|q| q.name);
    let mut names: Vec<&str> = SHORT.iter().map(|(short, _)| *short).collect();
    names.extend(long.filter(|name| !SHORT.iter().any(|(short, _)| short == name)));
    names.join(", ")
}

/// How many requests were good.
#[derive(Clone, Debug, PartialEq)]
pub struct Goodput {
    /// Requests judged: all but those that Ctrl-C took or that were never sent, as turns after one that failed.
    pub requests: u64,
    /// Of these, successful and within every limit.
    pub good: u64,
    /// Successful ones of which a limit's quantity is not known.
    pub unknown: u64,
    /// Name, limit, and how many met it.
    pub by_limit: Vec<(&'static str, f64, u64)>,
    /// Good requests a second; `None` for a run without duration.
    pub per_second: Option<f64>,
}

impl Goodput {
    /// Before the first row; `None` without a limit.
    pub(super) fn begun(slos: &[Slo]) -> Option<Self> {
        let by_limit: Vec<_> = slos.iter().map(|slo| (slo.name, slo.limit, 0)).collect();
        (!slos.is_empty()).then_some(Self { requests: 0, good: 0, unknown: 0, by_limit, per_second: None })
    }

    /// Judges one row by the limits it was begun with.
    pub(super) fn add(&mut self, row: &Row, slos: &[Slo]) {
        if let Some(failure) = &row.failure {
            let taken = matches!(failure.class, Class::Interrupted | Class::NotSent);
            self.requests += u64::from(!taken);
            return;
        }
        self.requests += 1;
        let (mut all, mut unknown) = (true, false);
        for (limit, slo) in self.by_limit.iter_mut().zip(slos) {
            let met = slo.met(row);
            limit.2 += u64::from(met == Some(true));
            all &= met == Some(true);
            unknown |= met.is_none();
        }
        self.good += u64::from(all);
        self.unknown += u64::from(unknown);
    }

    /// The rate, once it is known how long it took.
    pub(super) fn over(self, duration_s: f64) -> Self {
        let per_second = (duration_s > 0.0).then(|| self.good as f64 / duration_s);
        Self { per_second, ..self }
    }

    /// Share of the requests that were good; `None` where none was judged.
    pub fn attainment(&self) -> Option<f64> {
        self.share(self.good)
    }

    fn share(&self, count: u64) -> Option<f64> {
        (self.requests > 0).then(|| count as f64 / self.requests as f64)
    }

    /// Keys and values for `metrics`, named as `bench_serving`'s.
    pub fn to_json(&self) -> Map<String, Value> {
        let by = |of: &dyn Fn(&(&'static str, f64, u64)) -> Value| {
            self.by_limit.iter().map(|l| (l.0.to_owned(), of(l))).collect::<Map<_, _>>()
        };
        let fields = [
            ("goodput_slos_ms", Value::Object(by(&|l| json!(l.1)))),
            ("request_goodput", json!(self.per_second)),
            ("slo_attainment", json!(self.attainment())),
            ("slo_attainment_ci95", json!(wilson(self.good, self.requests))),
            ("slo_attainment_by_metric", Value::Object(by(&|l| json!(self.share(l.2))))),
            ("slo_requests_unknown", json!(self.unknown)),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// As lines.
    pub fn print(&self, out: &mut Lines) {
        out.rule('-', " Goodput ");
        if let Some(rate) = self.per_second {
            out.pair("Request goodput (req/s)", &figure(rate));
        }
        let share = |count: u64| {
            let (Some(share), Some((low, high))) = (self.share(count), wilson(count, self.requests)) else {
                return "no request was judged".to_owned();
            };
            format!(
                "{:.1} %  (95 % limits {:.1} to {:.1} %), {count} of {}",
                100.0 * share,
                100.0 * low,
                100.0 * high,
                self.requests
            )
        };
        out.pair("SLO attainment, all limits", &share(self.good));
        for (name, limit, met) in &self.by_limit {
            out.pair(&format!("  {name} up to {limit}"), &share(*met));
        }
        if self.unknown > 0 {
            out.pair("  of them unknown, taken for missed", &self.unknown.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::Failure;
    use crate::load::row::example;

    fn slos(text: &str) -> Vec<Slo> {
        text.split(' ').map(|t| Slo::parse(t).unwrap()).collect()
    }

    fn judged(rows: &[Row], slos: &[Slo], duration_s: f64) -> Option<Goodput> {
        let mut goodput = Goodput::begun(slos)?;
        for row in rows {
            goodput.add(row, slos);
        }
        Some(goodput.over(duration_s))
    }

    /// The example: TTFT 23.1, TPOT 9.875, E2E 62.6 ms at the client.
    #[test]
    fn attainment_of_five_rows_by_hand() {
        let slow = Row { client_first_token_ns: Some(1_042_500_000), ..example() };
        let one_token = Row { completion_tokens: Some(1), ..example() };
        let failed = Row { failure: Some(Failure::new(Class::Reset, "x")), ..example() };
        let never = Row { failure: Some(Failure::new(Class::NotSent, "x")), ..example() };
        let rows = [example(), slow, one_token, failed, never];
        let got = judged(&rows, &slos("ttft:25 tpot:9.9 e2el:100"), 2.0).unwrap();
        assert_eq!((got.requests, got.good, got.unknown), (4, 2, 0));
        assert_eq!(got.by_limit, [("ttft", 25.0, 2), ("tpot", 9.9, 3), ("e2el", 100.0, 3)]);
        let json = got.to_json();
        assert_eq!((&json["request_goodput"], &json["slo_attainment"]), (&json!(1.0), &json!(0.5)));
        assert_eq!(json["slo_attainment_by_metric"], json!({"ttft": 0.5, "tpot": 0.75, "e2el": 0.75}));
        assert_eq!(json["goodput_slos_ms"], json!({"ttft": 25.0, "tpot": 9.9, "e2el": 100.0}));
    }

    #[test]
    fn what_is_not_told_is_not_met() {
        let whole = Row { client_first_token_ns: None, ..example() };
        let got = judged(&[whole], &slos("ttft:1000"), 0.0).unwrap();
        assert_eq!((got.good, got.unknown, got.per_second), (0, 1, None));
        assert_eq!(judged(&[example()], &[], 1.0), None);
        // From the due time the same request takes 0.4 ms longer.
        let of = |text: &str| judged(&[example()], &slos(text), 1.0).unwrap().good;
        assert_eq!((of("e2el:62.6"), of("latency_from_schedule:62.6")), (1, 0));
    }

    #[test]
    fn bad_limits_say_what_is_wrong() {
        for (text, words) in [
            ("ttft", "NAME:MILLISECONDS"),
            ("itl:5", "no quantity \"itl\""),
            ("nope:5", "ttft, tpot, e2el, server_latency"),
            ("ttft:0", "above 0"),
            ("ttft:x", "\"x\""),
        ] {
            let error = Slo::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
