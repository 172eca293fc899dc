//! Figures of static batches: one line of JSON each, with the keys of SGLang's `bench_one_batch_server` and
//! `bench_one_batch`, and a table.
//!
//! Rule: what there is no figure for is null, never a number of another meaning: a batch of one output token has no decode.
//! Deliberately not here: measuring (`load::static_batch`).

use serde_json::{Value, json};

use super::stats::Samples;
use crate::load::probe::ServerInfo;
use crate::load::static_batch::Measured;
use crate::units::utc;

/// What every figure holds beside the model.
pub const INSIDE: &str = "client, network, HTTP, tokenizer manager and scheduler";

/// Seconds, or tokens a second, of one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// From the first write to the first token of the last member.
    pub prefill_s: f64,
    /// Prompt tokens over that time.
    pub prefill_per_s: f64,
    /// Half of the steps took no longer.
    pub decode_s: Option<f64>,
    /// Members over that time.
    pub decode_per_s: Option<f64>,
    /// Output tokens over the time after the prefill.
    pub output_per_s: Option<f64>,
    /// From the first write to the last byte.
    pub total_s: f64,
    /// Prompt and output tokens over that time.
    pub overall_per_s: f64,
}

impl Figures {
    /// Of the output tokens that came where the server tells them, as SGLang 0.5.23 does, else of those asked for. Decode is
    /// always of all members.
    pub fn of(measured: &Measured) -> Self {
        let case = measured.case;
        let members = f64::from(case.batch_size);
        let input = members * case.input_tokens as f64;
        let told = measured.tokens.completion_tokens.map(|tokens| tokens as f64);
        let output = told.unwrap_or(members * case.output_tokens as f64);
        let (prefill_s, total_s) = (measured.prefill_ns as f64 / 1e9, measured.total_ns as f64 / 1e9);
        let mut steps = Samples::default();
        for gap in &measured.steps {
            let tokens = u64::from(gap.tokens.max(1));
            steps.push_times(gap.ns as f64 / 1e9 / tokens as f64, tokens);
        }
        let decode_s = steps.summary().map(|summary| summary.median);
        let per_s = |tokens: f64, seconds: f64| if seconds > 0.0 { tokens / seconds } else { 0.0 };
        Self {
            prefill_s,
            prefill_per_s: per_s(input, prefill_s),
            decode_s,
            decode_per_s: decode_s.map(|s| per_s(members, s)),
            output_per_s: decode_s.map(|_| per_s(output, total_s - prefill_s)),
            total_s,
            overall_per_s: per_s(input + output, total_s),
        }
    }
}

/// The line of one batch.
pub fn line(measured: &Measured, run_name: &str, server: &ServerInfo) -> Value {
    let Measured { case, tokens, speed, .. } = measured;
    let f = Figures::of(measured);
    let hit_rate = tokens.cached_tokens.zip(tokens.prompt_tokens).filter(|(_, all)| *all > 0);
    json!({
        "run_name": run_name,
        "batch_size": case.batch_size,
        "input_len": case.input_tokens,
        "output_len": case.output_tokens,
        "latency": f.total_s,
        "last_ttft": f.prefill_s,
        "input_throughput": f.prefill_per_s,
        "output_throughput": f.output_per_s,
        "overall_throughput": f.overall_per_s,
        "last_gen_throughput": speed.last_gen_per_s,
        "acc_length": speed.accept_length,
        "prefill_latency": f.prefill_s,
        "prefill_throughput": f.prefill_per_s,
        "median_decode_latency": f.decode_s,
        "median_decode_throughput": f.decode_per_s,
        "total_latency": f.total_s,
        "total_output_tokens": tokens.completion_tokens,
        "num_early_stopped": measured.early,
        "cache_hit_rate": hit_rate.map(|(cached, all)| cached as f64 / all as f64),
        "cache_flushed": measured.not_flushed.is_none(),
        "inside": INSIDE,
        "started": utc(measured.started_unix_ns),
        "server": server.to_json(),
    })
}

/// The head of the table.
pub fn table_head() -> String {
    format!(
        "{:>6}{:>8}{:>8}{:>12}{:>14}{:>12}{:>14}{:>12}{:>14}",
        "batch",
        "input",
        "output",
        "prefill (s)",
        "tok/s",
        "decode (ms)",
        "tok/s",
        "total (s)",
        "overall tok/s"
    )
}

/// The line of the table.
pub fn table_line(measured: &Measured) -> String {
    let (case, f) = (measured.case, Figures::of(measured));
    let or_dash =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
    format!(
        "{:>6}{:>8}{:>8}{:>12.4}{:>14.1}{:>12}{:>14}{:>12.4}{:>14.1}",
        case.batch_size,
        case.input_tokens,
        case.output_tokens,
        f.prefill_s,
        f.prefill_per_s,
        or_dash(f.decode_s.map(|s| s * 1e3), 3),
        or_dash(f.decode_per_s, 1),
        f.total_s,
        f.overall_per_s
    )
}

/// What a reader of the line has to know.
pub fn warnings(measured: &Measured, server: &ServerInfo) -> Vec<String> {
    let mut out = Vec::new();
    let members = u64::from(measured.case.batch_size);
    if let Some(most) = server.max_running_requests.filter(|most| *most < members) {
        out.push(format!(
            "the server runs {most} requests at once (max_running_requests), so that of {members} members some waited for others: \
             prefill holds their wait, and decode of all members is too high"
        ));
    }
    if let Some(why) = &measured.not_flushed {
        out.push(format!(
            "caches could not be emptied ({why}): prompts that were sent there before, by the same --seed, are cached"
        ));
    }
    out.extend(bursts(measured));
    if measured.early > 0 {
        let of = if measured.tokens.completion_tokens.is_some() {
            "total and output throughput are of the tokens that came, decode of all members and too high"
        } else {
            "figures are of the tokens asked for, and too high"
        };
        out.push(format!(
            "{} of {} members ended before their length: {of}",
            measured.early, measured.case.batch_size
        ));
    }
    out
}

/// What to say where steps cannot be told apart.
fn bursts(measured: &Measured) -> Option<String> {
    let came = |most: u32| -> u64 {
        measured.steps.iter().filter(|gap| gap.tokens > most).map(|gap| u64::from(gap.tokens)).sum()
    };
    let (came, together) = (came(0), came(1));
    let held = measured.case.output_tokens.saturating_sub(1 + came);
    if held > 0 && measured.early == 0 {
        Some(format!("first tokens came together with later ones: {held} steps of decode are in the prefill"))
    } else if together * 2 > came {
        Some(format!(
            "{together} of {came} steps came several at a time (a busy machine, or speculation): decode is their mean"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::probe::Speed;
    use crate::load::row::Gap;
    use crate::load::static_batch::Case;
    use crate::wire::answer::Tokens;

    fn measured() -> Measured {
        Measured {
            case: Case { batch_size: 4, input_tokens: 1000, output_tokens: 4 },
            started_unix_ns: 1_795_343_465_276_000_000,
            prefill_ns: 200_000_000,
            total_ns: 300_000_000,
            steps: vec![
                Gap { ns: 20_000_000, tokens: 1, member: 0 },
                Gap { ns: 80_000_000, tokens: 2, member: 0 },
            ],
            early: 0,
            tokens: Tokens {
                prompt_tokens: Some(4000),
                completion_tokens: Some(16),
                cached_tokens: Some(40),
            },
            speed: Speed { last_gen_per_s: Some(99.5), accept_length: None },
            not_flushed: None,
        }
    }

    #[test]
    fn figures_are_tokens_over_times() {
        let line = line(&measured(), "a", &ServerInfo::default());
        for (key, expected) in [
            ("prefill_latency", 0.2),
            ("prefill_throughput", 20_000.0),
            ("median_decode_latency", 0.04),
            ("median_decode_throughput", 100.0),
            ("output_throughput", 160.0),
            ("total_latency", 0.3),
            ("overall_throughput", 4016.0 / 0.3),
            ("last_gen_throughput", 99.5),
            ("cache_hit_rate", 0.01),
        ] {
            let got = line[key].as_f64().unwrap_or_else(|| panic!("{key}: {line}"));
            assert!((got / expected - 1.0).abs() < 1e-9, "{key}: {got} {expected}");
        }
        assert_eq!((&line["batch_size"], &line["cache_flushed"]), (&json!(4), &json!(true)));
    }

    #[test]
    fn members_that_end_early_give_no_tokens_that_did_not_come() {
        let of = |completion_tokens| {
            let tokens = Tokens { completion_tokens, ..Tokens::default() };
            let short = Measured { early: 2, tokens, ..measured() };
            (
                Figures::of(&short).output_per_s.unwrap().round(),
                warnings(&short, &ServerInfo::default()).concat(),
            )
        };
        let (told, words) = of(Some(10));
        assert!((told - 100.0).abs() < 1e-9 && words.contains("that came"), "{told} {words}");
        let (asked, words) = of(None);
        assert!((asked - 160.0).abs() < 1e-9 && words.contains("asked for"), "{asked} {words}");
    }

    #[test]
    fn steps_that_cannot_be_told_apart_are_said() {
        let told = |steps: &[(u64, u32)]| {
            let steps = steps.iter().map(|&(ns, tokens)| Gap { ns, tokens, member: 0 }).collect();
            warnings(&Measured { steps, ..measured() }, &ServerInfo::default()).concat()
        };
        assert_eq!(told(&[(9, 1), (9, 1), (9, 1)]), "");
        assert!(told(&[(9, 1), (9, 2)]).starts_with("2 of 3 steps came several at a time"));
        assert!(told(&[(9, 1)]).contains("2 steps of decode are in the prefill"));
    }

    #[test]
    fn a_batch_of_one_output_token_has_no_decode() {
        let one = Measured { steps: Vec::new(), total_ns: 200_000_001, ..measured() };
        let line = line(&one, "a", &ServerInfo::default());
        for key in ["median_decode_latency", "median_decode_throughput", "output_throughput"] {
            assert_eq!(line[key], Value::Null, "{key}");
        }
        assert!(table_line(&one).contains(" - "));
        let server = ServerInfo { max_running_requests: Some(3), ..ServerInfo::default() };
        let told = warnings(&Measured { early: 1, not_flushed: Some("404".to_owned()), ..one }, &server);
        assert!(told.len() == 3 && told[0].contains("runs 3 requests at once"), "{told:?}");
    }
}
