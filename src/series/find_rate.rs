//! The highest rate at which a promise is kept: doubling until it is not, then halving the interval.
//!
//! Rule: a rate is good only if its run is VALID, has a steady state and keeps the promise; at a rate that has no steady state
//! every latency grows with the length of the run, so that the answer would depend on it. The answer is a bracket, the highest
//! good rate and the lowest bad one, with all that was measured on the way. Where the client is the limit, a run is too short
//! to tell or its data set too small, the search ends and says so; but a client that was a little late does not excuse a server that has no steady state, as
//! the load was made all the same. Deliberately not here: making the runs.

use serde_json::{Value, json};

use super::slo::Slo;

/// Rates outside are not tried.
const RATES_PER_S: (f64, f64) = (0.001, 1_000_000.0);
/// Times that the client may fail at one rate: the first may be chance.
const CLIENT_TRIES: usize = 2;

/// Rules that say of the client that requests left late.
const LATE: [&str; 3] = ["lateness", "gaps", "dispersion"];
/// Share of what is due in a run's time that its data set may lack: more is another rate.
const MOST_SHORT: f64 = 0.05;

/// Where a search ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The first rate, requests a second.
    pub first_per_s: f64,
    /// The bracket is narrow enough: bad over good, less one.
    pub precision: f64,
    /// Runs at most.
    pub probes: usize,
    /// No run begins after this many seconds.
    pub time_s: f64,
}

/// What one run says of its rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Kept, in a steady state.
    Good,
    /// Not kept, or no steady state; why.
    Bad(String),
    /// The client did not make the load; why.
    ClientFailed(String),
    /// It cannot be told; why.
    Unclear(String),
}

impl Word {
    /// Judges a run by its line of JSON.
    pub fn of(run: &Value, slo: &Slo) -> Self {
        let verdict = &run["verdict"];
        if let Some(why) = ended_early(run) {
            return Self::Unclear(why);
        }
        if !load_was_made(run) {
            return Self::ClientFailed(bad(verdict, "client").join("; "));
        }
        let missed = slo.missed(run);
        if verdict["server"] != "VALID" || !missed.is_empty() {
            // Of several trends the worst says enough.
            return Self::Bad(
                missed
                    .into_iter()
                    .chain(bad(verdict, "server").into_iter().take(1))
                    .collect::<Vec<_>>()
                    .join("; "),
            );
        }
        if verdict["steady"] == true {
            return Self::Good;
        }
        let open = checks(verdict).filter(|c| c["rating"] == "not judged").filter_map(|c| c["text"].as_str());
        let open = open.collect::<Vec<_>>().join("; ");
        Self::Unclear(format!("no steady state could be shown ({open}): give a longer --duration"))
    }

    /// For tables and lines.
    pub fn text(&self) -> String {
        match self {
            Self::Good => "good".to_owned(),
            Self::Bad(why) => format!("bad: {why}"),
            Self::ClientFailed(why) => format!("client failed: {why}"),
            Self::Unclear(why) => format!("unclear: {why}"),
        }
    }
}

fn checks(verdict: &Value) -> impl Iterator<Item = &Value> {
    verdict["checks"].as_array().into_iter().flatten()
}

/// What is not as it should be on one side, worst first.
fn bad(verdict: &Value, side: &str) -> Vec<String> {
    let rated = |rating: &'static str| {
        checks(verdict).filter(move |c| c["side"] == *side && c["rating"] == rating).filter_map(told)
    };
    rated("INVALID").chain(rated("SUSPECT")).collect()
}

fn told(check: &Value) -> Option<String> {
    Some(format!("{}: {}", check["rule"].as_str()?, check["text"].as_str()?))
}

/// Why a run says, or will say, nothing of its rate: its data set ends long before its time, so that what it makes is a burst and not
/// the rate.
pub fn ended_early(run: &Value) -> Option<String> {
    let series = &run["series"];
    let (planned, due) = (series["starts"].as_u64()?, series["starts_due"].as_u64()?);
    ((planned as f64) < (1.0 - MOST_SHORT) * due as f64).then(|| {
        format!("the data set has {planned} to begin, and {due} are due in the time of the run: give a larger one or a shorter --duration")
    })
}

/// The run tells something of its rate: the client made the load, or was late by so little that it is not why the server has no
/// steady state. Only requests that left late are so little: one that reads answers late makes the rise itself.
pub fn load_was_made(run: &Value) -> bool {
    let verdict = &run["verdict"];
    let saturated = |c: &Value| {
        c["rating"] == "INVALID" && c["rule"].as_str().is_some_and(|rule| rule.starts_with("trend_"))
    };
    let excused = |c: &Value| c["rule"].as_str().is_some_and(|rule| LATE.contains(&rule));
    let mut doubts = checks(verdict).filter(|c| c["side"] == "client" && c["rating"] == "SUSPECT");
    verdict["client"] == "VALID"
        || verdict["client"] == "SUSPECT" && doubts.all(excused) && checks(verdict).any(saturated)
}

/// One run of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Requests a second.
    pub per_s: f64,
    /// What it says.
    pub word: Word,
    /// Its line of JSON.
    pub run: Value,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The highest good rate.
    pub good_per_s: Option<f64>,
    /// The lowest bad rate above it.
    pub bad_per_s: Option<f64>,
    /// Why it ended.
    pub ended: String,
    /// All runs, in their order.
    pub probes: Vec<Probe>,
}

impl Answer {
    /// Both ends are known.
    pub fn is_bracket(&self) -> bool {
        self.good_per_s.is_some() && self.bad_per_s.is_some()
    }

    /// Runs by rate.
    pub fn curve(&self) -> Vec<&Probe> {
        let mut curve: Vec<&Probe> = self.probes.iter().collect();
        curve.sort_by(|a, b| a.per_s.total_cmp(&b.per_s));
        curve
    }

    /// For the file.
    pub fn to_json(&self, slo: &Slo) -> Value {
        let point = |p: &&Probe| json!({"request_rate": p.per_s, "word": p.word.text()});
        json!({"find_rate": {
            "slo": slo.to_string(),
            "good_request_rate": self.good_per_s,
            "bad_request_rate": self.bad_per_s,
            "ended": self.ended,
            "curve": self.curve().iter().map(point).collect::<Vec<_>>(),
        }})
    }
}

/// The next rate to try; none where the bracket is narrow enough.
fn next(limits: &Limits, good: Option<f64>, bad: Option<f64>) -> Option<f64> {
    match (good, bad) {
        (None, None) => Some(limits.first_per_s),
        (Some(good), None) => Some(good * 2.0),
        (None, Some(bad)) => Some(bad / 2.0),
        (Some(good), Some(bad)) if bad / good <= 1.0 + limits.precision => None,
        // The geometric middle: as far from both ends in the measure of the precision. Three digits are enough to be read.
        (Some(good), Some(bad)) => {
            Some(rounded((good * bad).sqrt()).clamp(good, bad)).filter(|m| *m > good && *m < bad)
        }
    }
}

fn rounded(rate: f64) -> f64 {
    let scale = 10_f64.powi(2 - rate.log10().floor() as i32);
    (rate * scale).round() / scale
}

/// Searches. `probe` makes the run of a rate and of a number that is new each time, and `elapsed_s` tells the time.
///
/// # Errors
/// Those of `probe`.
pub async fn find_rate<E>(
    limits: Limits,
    slo: &Slo,
    elapsed_s: impl Fn() -> f64,
    mut probe: impl AsyncFnMut(f64, usize) -> Result<Value, E>,
) -> Result<Answer, E> {
    let mut answer = Answer { good_per_s: None, bad_per_s: None, ended: String::new(), probes: Vec::new() };
    let mut client_failed = 0;
    loop {
        let Some(per_s) = next(&limits, answer.good_per_s, answer.bad_per_s) else {
            "the bracket is as narrow as asked for".clone_into(&mut answer.ended);
            return Ok(answer);
        };
        if let Some(ended) = limit(&limits, per_s, answer.probes.len(), elapsed_s()) {
            answer.ended = ended;
            return Ok(answer);
        }
        let run = probe(per_s, answer.probes.len()).await?;
        let interrupted = run["partial"] == true;
        let word = Word::of(&run, slo);
        answer.probes.push(Probe { per_s, word: word.clone(), run });
        match word {
            _ if interrupted => {
                "interrupted".clone_into(&mut answer.ended);
                return Ok(answer);
            }
            Word::Good => answer.good_per_s = Some(per_s),
            Word::Bad(_) => answer.bad_per_s = Some(per_s),
            Word::ClientFailed(_) if client_failed + 1 < CLIENT_TRIES => {
                client_failed += 1;
                continue;
            }
            Word::ClientFailed(why) => {
                answer.ended = format!("the client cannot make {per_s}/s: {why}");
                return Ok(answer);
            }
            Word::Unclear(why) => {
                answer.ended = format!("at {per_s}/s: {why}");
                return Ok(answer);
            }
        }
        client_failed = 0;
    }
}

fn limit(limits: &Limits, per_s: f64, probes: usize, elapsed_s: f64) -> Option<String> {
    if probes >= limits.probes {
        Some(format!("{probes} runs were made"))
    } else if elapsed_s >= limits.time_s {
        Some(format!("the time of {} s is over", limits.time_s))
    } else if !(RATES_PER_S.0..=RATES_PER_S.1).contains(&per_s) {
        Some(format!("{per_s}/s is out of range"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { first_per_s: 1.0, precision: 0.05, probes: 20, time_s: 1e9 };

    fn slo() -> Slo {
        Slo::parse("p99 ttft<100ms").unwrap()
    }

    /// A server whose p99 is 10/(1 - rate/capacity) ms, and which has no steady state beyond.
    fn run(rate: f64, capacity: f64) -> Value {
        let steady = rate < capacity;
        let p99 = if steady { 10.0 / (1.0 - rate / capacity) } else { 9e9 };
        let server = if steady { "VALID" } else { "INVALID" };
        json!({"metrics": {"p99_ttft_ms": p99}, "partial": false,
            "verdict": {"client": "VALID", "server": server, "steady": steady, "reasons": [], "checks": []}})
    }

    async fn search(limits: Limits, made: impl Fn(f64, usize) -> Value) -> Answer {
        find_rate(limits, &slo(), || 0.0, async |rate, number| Ok::<_, ()>(made(rate, number))).await.unwrap()
    }

    #[tokio::test]
    async fn the_bracket_holds_the_highest_good_rate() {
        // 10/(1 - r/50) = 100 at r = 45.
        let answer = search(LIMITS, |rate, _| run(rate, 50.0)).await;
        let (good, bad) = (answer.good_per_s.unwrap(), answer.bad_per_s.unwrap());
        assert!(good < 45.0 && bad >= 45.0 && bad / good <= 1.05, "{good} {bad}");
        assert!(answer.probes.len() <= 12, "{}", answer.probes.len());
        assert!(answer.curve().windows(2).all(|two| two[0].per_s <= two[1].per_s));
        assert_eq!(answer.to_json(&slo())["find_rate"]["good_request_rate"], good);
    }

    #[tokio::test]
    async fn it_goes_down_where_the_first_rate_is_too_high() {
        let answer = search(Limits { first_per_s: 400.0, ..LIMITS }, |rate, _| run(rate, 50.0)).await;
        assert!(answer.good_per_s.unwrap() < 45.0 && answer.is_bracket());
    }

    #[tokio::test]
    async fn runs_and_time_are_limited() {
        let few = search(Limits { probes: 3, ..LIMITS }, |rate, _| run(rate, 1e9)).await;
        assert_eq!((few.probes.len(), few.good_per_s, few.bad_per_s), (3, Some(4.0), None));
        let late = find_rate(LIMITS, &slo(), || 1e10, async |_, _| Err::<Value, ()>(())).await.unwrap();
        assert!(late.probes.is_empty() && late.ended.contains("time"));
    }

    #[tokio::test]
    async fn a_client_that_fails_twice_ends_it_and_once_does_not() {
        let failing = |rate: f64, number: usize, on: &[usize]| {
            let mut run = run(rate, 50.0);
            if on.contains(&number) {
                run["verdict"]["client"] = "SUSPECT".into();
            }
            run
        };
        assert!(search(LIMITS, |rate, n| failing(rate, n, &[2])).await.is_bracket());
        let ended = search(LIMITS, |rate, n| failing(rate, n, &[2, 3])).await;
        assert_eq!((ended.good_per_s, ended.bad_per_s), (Some(2.0), None));
        assert!(ended.ended.starts_with("the client cannot make 4/s"), "{}", ended.ended);
    }

    #[tokio::test]
    async fn a_late_client_is_no_excuse_for_a_server_that_has_no_steady_state() {
        let of = |client: &str, rate: f64| {
            let mut run = run(rate, 50.0);
            run["verdict"]["client"] = client.into();
            let trend = |side: &str, rule: &str, rating: &str, text: &str| json!({"side": side, "rule": rule, "rating": rating, "text": text});
            let rating = if rate < 50.0 { "VALID" } else { "INVALID" };
            run["verdict"]["checks"] = json!([
                trend("client", "lateness", client, "p99 43 ms"),
                trend("server", "trend_e2e", rating, "saturated"),
            ]);
            run
        };
        let late = search(LIMITS, |rate, _| of(if rate < 50.0 { "VALID" } else { "SUSPECT" }, rate)).await;
        assert!(late.is_bracket(), "{}", late.ended);
        let of_64 = late.curve().last().map(|probe| probe.word.text()).unwrap();
        assert!(
            of_64.starts_with("bad: p99 ttft<100ms is") && of_64.ends_with("trend_e2e: saturated"),
            "{of_64}"
        );
        assert_eq!(
            Word::of(&of("SUSPECT", 4.0), &slo()),
            Word::ClientFailed("lateness: p99 43 ms".to_owned())
        );
        assert!(!load_was_made(&of("INVALID", 64.0)));
        // A client that is slow to read makes the rise by itself.
        for rule in ["littles_law", "client_cpu", "trace_extra"] {
            let mut busy = of("SUSPECT", 64.0);
            let doubt = json!({"side": "client", "rule": rule, "rating": "SUSPECT", "text": "busy"});
            busy["verdict"]["checks"].as_array_mut().unwrap().push(doubt);
            assert!(matches!(Word::of(&busy, &slo()), Word::ClientFailed(_)), "{rule}");
        }
    }

    #[tokio::test]
    async fn a_data_set_that_ends_before_the_run_tells_nothing_of_the_rate() {
        let answer = search(LIMITS, |rate, _| {
            let mut run = run(rate, 1e9);
            let due = (30.0 * rate) as u64;
            run["series"] = json!({"starts": due.min(120), "starts_due": due});
            run
        })
        .await;
        assert_eq!((answer.good_per_s, answer.bad_per_s), (Some(4.0), None));
        assert!(
            answer.ended.starts_with("at 8/s: the data set has 120 to begin, and 240 are due"),
            "{}",
            answer.ended
        );
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_not_taken_for_good() {
        let answer = search(LIMITS, |rate, _| {
            let mut run = run(rate, 50.0);
            run["verdict"]["steady"] = false.into();
            run
        })
        .await;
        assert_eq!(answer.good_per_s, None);
        assert!(answer.ended.contains("longer --duration"), "{}", answer.ended);
    }
}
