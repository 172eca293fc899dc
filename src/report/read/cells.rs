//! Cells of the CSV back into a row: the other half of [`crate::report::csv`].
//!
//! Rule: what is derived is not read but derived again, so that a definition is written once; an empty cell is an unknown.
//! Deliberately not here: lines and quotes (`csv`).

use crate::load::failure::{Class, Failure};
use crate::load::row::Row;
use crate::report::csv::COLUMNS;
use crate::trace::align::{self, TtftSource};

/// Times are below this: a century after 1970, in case a table has them from there.
const MOST_SECONDS: i64 = 4_000_000_000;

/// Puts a cell that is not empty into a row; what was expected where it does not fit.
pub(super) type Set = fn(&mut Row, &str) -> Result<(), &'static str>;

/// What a column tells; `None` where it is derived from others, or unknown.
pub(super) fn setter(column: &str) -> Option<Set> {
    client(column).or_else(|| moment(column)).or_else(|| count(column))
}

fn client(column: &str) -> Option<Set> {
    Some(match column {
        "req_id" => |r, t| put(&mut r.req_id, t.to_owned()),
        "success" => |r, t| match t {
            "True" | "true" | "1" => Ok(()),
            "False" | "false" | "0" => {
                r.failure.get_or_insert_with(|| Failure::new(Class::Other, ""));
                Ok(())
            }
            _ => Err("True or False"),
        },
        "error" => |r, t| put(&mut r.failure, Some(failure(t))),
        "host" => |r, t| put(&mut r.host, Some(t.to_owned())),
        "has_generated_text" => |r, t| put(&mut r.has_generated_text, truth(t)?),
        "ttft_source" => |r, t| put(&mut r.ttft_source, source(t)),
        "policy" => |r, t| put(&mut r.policy, Some(t.to_owned())),
        "phase" => |r, t| put(&mut r.phase, Some(t.to_owned())),
        "worker_kind" => |r, t| match t {
            "simulated" => put(&mut r.simulated, Some(true)),
            "real" => put(&mut r.simulated, Some(false)),
            _ => Err("simulated or real"),
        },
        "order_broken" => |r, t| put(&mut r.order_broken, truth(t)?),
        "missing" => |r, t| put(&mut r.missing, missing(t)),
        _ => return None,
    })
}

fn moment(column: &str) -> Option<Set> {
    Some(match column {
        "arrival_time" => |r, t| put(&mut r.arrival_ns, Some(ns(t)?)),
        "router_send_time" => |r, t| put(&mut r.router_send_ns, Some(ns(t)?)),
        "server_created_time" => |r, t| put(&mut r.created_ns, Some(ns(t)?)),
        "queue_time_start" => |r, t| put(&mut r.queue_start_ns, Some(ns(t)?)),
        "queue_time_end" => |r, t| put(&mut r.queue_end_ns, Some(ns(t)?)),
        "server_first_token_time" => |r, t| put(&mut r.server_first_token_ns, Some(ns(t)?)),
        "finish_time" => |r, t| put(&mut r.finish_ns, Some(ns(t)?)),
        "ttft" => |r, t| put(&mut r.ttft_ns, Some(ns(t)?)),
        "queue_time_in_server" => |r, t| put(&mut r.queue_in_server_ns, Some(ns(t)?)),
        "tokenize_time" => |r, t| put(&mut r.tokenize_ns, Some(ns(t)?)),
        "pure_queue_time" => |r, t| put(&mut r.pure_queue_ns, Some(ns(t)?)),
        "ttft_router" => |r, t| put(&mut r.ttft_router_ns, Some(ns(t)?)),
        "scheduled_time" => |r, t| put(&mut r.scheduled_ns, ns(t)?),
        "sent_time" => |r, t| put(&mut r.sent_ns, Some(ns(t)?)),
        "clock_bound" => |r, t| put(&mut r.clock_bound_ns, u64::try_from(ns(t)?).ok()),
        "dispatched_time" => |r, t| put(&mut r.dispatched_ns, Some(ns(t)?)),
        "connected_time" => |r, t| put(&mut r.connected_ns, Some(ns(t)?)),
        "client_first_token_time" => |r, t| put(&mut r.client_first_token_ns, Some(ns(t)?)),
        "client_end_time" => |r, t| put(&mut r.client_end_ns, Some(ns(t)?)),
        "write_begun_time" => |r, t| put(&mut r.write_begun_ns, Some(ns(t)?)),
        "decided_time" => |r, t| put(&mut r.decided_ns, Some(ns(t)?)),
        "decision_time" => |r, t| put(&mut r.decision_ns, Some(ns(t)?)),
        "router_wait_time" => |r, t| put(&mut r.router_wait_ns, Some(ns(t)?)),
        _ => return None,
    })
}

fn count(column: &str) -> Option<Set> {
    Some(match column {
        "input_length" => |r, t| put(&mut r.input_words, Some(whole(t)?)),
        "expected_output_length" => |r, t| put(&mut r.max_new_tokens, Some(whole(t)?)),
        "actual_prompt_tokens" => |r, t| put(&mut r.prompt_tokens, Some(whole(t)?)),
        "actual_output_tokens" => |r, t| put(&mut r.completion_tokens, Some(whole(t)?)),
        "output_tokens_from_trace" => |r, t| put(&mut r.trace_completion_tokens, Some(whole(t)?)),
        // The best of three counts, of which the two others have columns of their own.
        "decode_length" => |r, t| put(&mut r.counted_tokens, Some(whole(t)?)),
        "cached_tokens" => |r, t| put(&mut r.cached_tokens, Some(whole(t)?)),
        "planned_prompt_tokens" => |r, t| put(&mut r.planned_tokens, whole(t)?),
        // Only a router's record tells attempts.
        "attempts" => |r, t| {
            r.in_trace = true;
            put(&mut r.attempts, Some(small(t)?))
        },
        "status" => |r, t| put(&mut r.status, Some(u16::try_from(whole(t)?).map_err(|_| "a status")?)),
        "client_reconnects" => |r, t| put(&mut r.reconnects, small(t)?),
        "prefix_group" => |r, t| put(&mut r.group, Some(small(t)?)),
        "batch_size" => |r, t| put(&mut r.batch_size, Some(small(t)?)),
        "session" => |r, t| {
            let turn = r.turn.map_or(0, |(_, turn)| turn);
            put(&mut r.turn, Some((small(t)?, turn)))
        },
        "turn" => |r, t| {
            let session = r.turn.map_or(0, |(session, _)| session);
            put(&mut r.turn, Some((session, small(t)?)))
        },
        _ => return None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "so that a setter is one expression")]
fn put<T>(place: &mut T, value: T) -> Result<(), &'static str> {
    *place = value;
    Ok(())
}

fn truth(text: &str) -> Result<bool, &'static str> {
    match text {
        "True" | "true" => Ok(true),
        "False" | "false" => Ok(false),
        _ => Err("True or False"),
    }
}

fn whole(text: &str) -> Result<u64, &'static str> {
    text.parse().or_else(|_| match text.parse::<f64>() {
        // Some tables write counts as 5.0.
        Ok(n) if n >= 0.0 && n.fract() == 0.0 && n < 9e15 => Ok(n as u64),
        _ => Err("a whole number"),
    })
}

fn small(text: &str) -> Result<u32, &'static str> {
    u32::try_from(whole(text)?).map_err(|_| "a whole number below 2^32")
}

/// Seconds as nanoseconds, exact where they are written in decimals.
fn ns(text: &str) -> Result<i64, &'static str> {
    const WHAT: &str = "seconds";
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 10 || part.len() > 9 || !plain(whole) || !plain(part) {
        let seconds: f64 = text.parse().map_err(|_| WHAT)?;
        return if seconds.abs() < MOST_SECONDS as f64 {
            Ok((seconds * 1e9).round() as i64)
        } else {
            Err(WHAT)
        };
    }
    let number = |text: &str| text.bytes().fold(0_i64, |n, b| n * 10 + i64::from(b - b'0'));
    let (seconds, scale) = (number(whole), 10_i64.pow(9 - part.len() as u32));
    if seconds < MOST_SECONDS {
        Ok(sign * (seconds * 1_000_000_000 + number(part) * scale))
    } else {
        Err(WHAT)
    }
}

/// `class: text`; another's words are their own class.
fn failure(text: &str) -> Failure {
    match text.split_once(": ") {
        Some((name, rest)) if Class::named(name).is_some() => {
            Failure { class: Class::named(name).unwrap_or(Class::Other), text: rest.to_owned() }
        }
        _ => Failure::new(Class::Other, text),
    }
}

fn source(text: &str) -> &'static str {
    let known = [
        TtftSource::ServerPatch,
        TtftSource::ServerFirstTokenLatency,
        TtftSource::ServerSentTs,
        TtftSource::ServerPrefillFinished,
        TtftSource::Router,
        TtftSource::None,
    ];
    known.into_iter().map(TtftSource::as_str).chain(["client"]).find(|name| *name == text).unwrap_or("other")
}

/// `column=why; column=why`. What no version says is left out: nothing rests on it but words.
fn missing(text: &str) -> Vec<(&'static str, &'static str)> {
    let pair = |pair: &str| {
        let (column, why) = pair.split_once('=')?;
        let column = COLUMNS.iter().find(|name| **name == column)?;
        Some((*column, *align::REASONS.iter().find(|reason| **reason == why)?))
    };
    text.split("; ").filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_to_the_nanosecond() {
        for (text, expected) in [
            ("1.000000001", 1_000_000_001),
            ("-0.001500000", -1_500_000),
            ("12", 12_000_000_000),
            ("0.021", 21_000_000),
            ("1e-6", 1_000),
            ("1795343465.25", 1_795_343_465_250_000_000),
        ] {
            assert_eq!(ns(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "-", "1.2.3", "nan", "inf", "1e30", "9999999999"] {
            assert!(ns(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_may_be_written_as_decimals_and_are_whole() {
        assert_eq!((whole("5"), whole("5.0")), (Ok(5), Ok(5)));
        assert!(whole("5.5").is_err() && whole("-1").is_err() && small("5000000000").is_err());
    }

    #[test]
    fn words_of_others_are_a_class_of_their_own() {
        assert_eq!(failure("reset: x"), Failure::new(Class::Reset, "x"));
        assert_eq!(failure("ClientError: x"), Failure::new(Class::Other, "ClientError: x"));
    }
}
