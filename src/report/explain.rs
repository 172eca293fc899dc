//! What the numbers mean: definitions on the console and as `docs/metrics.md`.
//!
//! Rule: all of it is made of the table of quantities. Deliberately not here: columns that are no quantity, see `csv`.

use std::fmt::Write;

use super::faults::DEFINITIONS;
use super::lines::{Lines, figure};
use super::metrics::Metrics;
use super::peers::{self, Reader};
use super::quantity::{self, Quantity};

/// How far the definitions stand from the left.
const INDENT: &str = "    ";

/// Older names of stamps: what they are now, and how.
const OLDER_STAMPS: [(&str, &str); 8] = [
    ("server_start_time", "`server_created_time`: the server accepted the request"),
    ("to_server_time", "`queue_time_in_router` as a duration, `router_send_time` as a moment"),
    ("completion_time", "`server_latency` as a duration, `finish_time` as a moment"),
    ("queue_time", "`pure_queue_time`; SGLang's own `queue_time` in `meta_info` is the same span"),
    ("first_token_time", "`server_first_token_time`"),
    ("prompt_len", "`actual_prompt_tokens`"),
    ("output_len", "`actual_output_tokens`; `decode_length` where the server does not count"),
    ("e2e_latency, latency", "`client_latency` from the send, `latency_from_schedule` from the due time"),
];

/// Sums over successful requests: name, title in the summary, definition.
const SUMS: [(&str, &str, &str); 2] = [
    (
        "total_input_tokens",
        "Total input tokens",
        "prompt tokens by the servers' count, of the requests that tell it; input_tokens_known_requests says how many these are, and the \
         summary says `of N requests` where they are not all",
    ),
    (
        "total_output_tokens",
        "Total generated tokens",
        "generated tokens by the best count there is, of the requests that have one (output_tokens_known_requests, and as above). The \
         throughputs of tokens are these sums a second and are marked like them, that of both kinds with two numbers where they differ; \
         a sum that no request tells is null",
    ),
];

/// Each quantity of a run with its numbers and its definition.
pub fn shown(metrics: &Metrics) -> String {
    let mut out = Lines::default();
    out.rule('-', " What these numbers are ");
    for q in quantity::all() {
        if let Some(s) = metrics.summary(q.name) {
            let unit = q.unit.name();
            out.line(&format!(
                "{} ({}): mean {} {unit}, p50 {} {unit}, p99 {} {unit}, n {}",
                q.title,
                q.name,
                figure(s.mean),
                figure(s.median),
                figure(s.p99),
                s.count
            ));
            definition(&mut out, q);
        }
    }
    sums(&mut out);
    out.0
}

/// The figures of a schedule of failures with their definitions.
pub fn of_faults() -> String {
    let mut out = Lines::default();
    for (name, title, definition) in DEFINITIONS {
        out.line(&format!("{title} ({name})"));
        out.wrapped(INDENT, definition);
    }
    out.0
}

/// Every definition.
pub fn all() -> String {
    let mut out = Lines::default();
    for q in quantity::all() {
        let unit = q.unit.name();
        out.line(&format!("{} ({}){}{unit}", q.title, q.name, if unit.is_empty() { "" } else { ", " }));
        definition(&mut out, q);
    }
    sums(&mut out);
    out.0.push_str(&of_faults());
    out.0
}

fn sums(out: &mut Lines) {
    for (name, title, definition) in SUMS {
        out.line(&format!("{title} ({name})"));
        out.wrapped(INDENT, definition);
    }
}

fn definition(out: &mut Lines, q: &Quantity) {
    out.wrapped(INDENT, q.definition);
}

/// `docs/metrics.md`.
pub fn page() -> String {
    let mut out = String::from(INTRODUCTION);
    for (title, wanted) in [("Latencies", true), ("Parts of a request's time", false)] {
        // Writing to a String cannot fail.
        let _ =
            write!(out, "\n## {title}\n\n| name | in the summary | unit | definition |\n|---|---|---|---|\n");
        for q in quantity::all().filter(|q| q.is_latency() == wanted) {
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                q.name,
                q.title,
                q.unit.name(),
                q.definition.replace('|', "\\|")
            );
        }
    }
    out.push_str("\n## Sums of tokens\n\n| name | in the summary | definition |\n|---|---|---|\n");
    for (name, title, definition) in SUMS {
        let _ = writeln!(out, "| `{name}` | {title} | {definition} |");
    }
    out.push_str(RULES);
    out.push_str(FAULTS);
    for (name, title, definition) in DEFINITIONS {
        let _ = writeln!(out, "| `{name}` | {title} | {definition} |");
    }
    scripts(&mut out);
    out.push_str("\n## Older names\n\n| name | here |\n|---|---|\n");
    for (older, here) in OLDER_STAMPS {
        let _ = writeln!(out, "| `{older}` | {here} |");
    }
    out
}

/// The keys that other tools' scripts read.
fn scripts(out: &mut String) {
    out.push_str(SCRIPTS);
    let whose = |reader| match reader {
        Reader::Sglang => "SGLang's",
        Reader::Vllm => "vLLM's",
        Reader::Both => "both",
    };
    for key in peers::KEYS {
        let _ = writeln!(out, "| `{}` | {} | {} |", key.name, whose(key.reader), key.about);
    }
    for (name, reader, quantity) in peers::LATENCIES {
        let figures: Vec<String> = peers::FIGURES.iter().map(|(f, _)| format!("`{f}_{name}_ms`")).collect();
        let _ = writeln!(out, "| {} | {} | of `{quantity}` |", figures.join(" "), whose(reader));
    }
    for (name, about) in peers::LISTS {
        let _ = writeln!(out, "| `{name}` | both | {about} (`--output-details`) |");
    }
}

const SCRIPTS: &str = "
## Keys for scripts of other load generators

Besides `metrics`, in our own names, `run.json` and the line of `--output-file` have at their top the keys that scripts for SGLang's
`bench_serving` (a line of JSON a run) and vLLM's `bench serve` read: latencies at the client from the send, in milliseconds, so that
`mean_ttft_ms` at the top is `metrics.mean_ttft_client_ms`. `itl` is counted a token as SGLang does; what vLLM calls so is
`metrics.mean_icl_ms` and its like. vLLM's `bench sweep plot` takes a list of runs: `jq -s . runs.jsonl > summary.json`.

| key | whose scripts | what it is |
|---|---|---|
";

const INTRODUCTION: &str = "# Metrics of `milepost bench`

Made of the table of quantities in `src/report/quantity/` (`MILEPOST_REWRITE_DOCS=1 cargo test --test bench_load page` writes it
anew); `milepost bench --explain` prints each number of a run with its definition, `--explain=all` prints them all. Moments are
columns of `requests.csv`, in seconds from the start of the run. What is not known is empty or null, never 0, and gives no sample.
Token counts are the server's, else the router's record's, else the client's. A request with several prompts or samples
(`batch_size` above 1) sums its tokens. Of the server's stamps its `server_created_time` is the earliest and its first token the
latest of them. So it is at the client: the first token of such a request is the first of the member whose first came last, where the
stream says whose an event is (`index`). The router's record has the first event with a token of any of them, so a `ttft` of
`ttft_source` `router` is that of the fastest. `itl`, `icl` and `tpot_client` of such a request are of each member's own stream: of
two members that begin at 0 and 5 ms and have three tokens more at 30 and 35 ms, `tpot_client` is (30 + 30) / (8 - 2) = 10 ms. `tpot`
is empty for it. Only with `--token-times` do its files hold these times.

A metric of one's own is one file in `src/report/quantity/` with a `QUANTITIES` table and its line in `TOPICS`: name, title, unit,
definition and a function of a row. The summary, `run.json`, `--explain`, `--goodput` and this page have it then.

Without Rust it is `--column NAME=EXPR`, such as `--column 'ttft_a_token=ttft*1000/actual_prompt_tokens'`: an expression over the
columns of `requests.csv` (times in seconds; text in quotes; `&&`, `||`, `if a { b } else { c }`; `or(cached_tokens, 0)` where a cell may be
empty). It is a column at the end of `requests.csv`, and of successful requests a line of the summary and an entry of `columns` in
`run.json`. A row of which it cannot be computed has an empty cell, and is counted with the reason if the request succeeded.
";

const RULES: &str = "
## Percentiles and their limits

Percentiles interpolate linearly between closest ranks (numpy's default, `bench_serving`'s). `metrics` in `run.json` holds
`mean_`, `std_`, `median_`, `p90_`, `p95_`, `p99_`, `p999_` and `max_` of each name with its unit (`p99_ttft_ms`), and `count_`.

`percentiles_ci95` holds the 95 % limits of each percentile: two of the samples, chosen by their ranks, which enclose the true
percentile whatever the distribution (order statistics: of n samples the number below quantile q is binomial). `null`, and a `?` in
the summary, is **n too small**: if the largest sample lies below the true percentile with more than 2.5 % (q^n > 0.025), nothing
bounds it from above. It takes 6 samples for p50, 36 for p90, 72 for p95, 368 for p99 and 3,688 for p99.9. A gap of several tokens
counts once here. The limits take samples for independent of each other. Gaps of one stream, and requests that queue behind each
other, are not: near saturation, and for `itl` and `icl`, the limits are too narrow, and repeated runs say more.

## HDR histogram log

`--hdr` writes `latency.hdr` into the run's folder: for each second, and each of `ttft_client`, `ttft_from_schedule`, `itl`, `icl`,
`tpot_client`, `client_latency` and `latency_from_schedule`, the samples of successful requests as an HDR histogram, in the log
format (1.3) that HdrHistogram's tools and plotters read. The tag of a line is the name above; values are nanoseconds,
`Interval_Max` is milliseconds, `StartTimestamp` counts from the start of the run. A sample is of the second in which the client
saw it: the first token, the token, the last byte. Intervals are longer than a second in a run of so many that their buckets would
not fit into memory. `milepost report a.hdr b.hdr` adds logs up by tag, such as those of several client machines, and prints each
and all together; `--json FILE` has the same, and the page (`report.html` unless `--out` says another; `--svg` and `--png` have the charts as files) draws the share of samples up to each value. Three significant digits keep a value within 0.1 %; adding loses nothing more, as
equal values are in equal buckets, unless a log has fewer digits: then so has the sum, and a note says it. `itl` and `icl` are of
the first 20 million tokens of a run; what was left out beyond is said in a line of the log. A percentile of a histogram is the
upper end of a bucket and is not interpolated; values above a day are counted as a day. A log of another program is read too: its
values are shown as they were recorded, as no log says its unit.

## Where the time went

The parts above, with `pure_queue_time`, `prefill_time` and `decode_time`, follow each other from the due time to the last byte at
the client; their shares and what no stamp tells apart add up to 100 % of the time of all successful requests. The mean, p50 and
p99 of a part are over the requests that know it. A request whose stamps are out of order (`order_broken`) is not told apart.

The hint is about imbalance if a worker has more than 1.2 times the mean number of requests and the excess is more than three
standard deviations of an even draw; else about the queue, if a quarter of the time went by there.

## Goodput

`--goodput ttft:200 tpot:50 e2el:5000`: a good request succeeded and kept every limit. `ttft`, `tpot` and `e2el` are `ttft_client`,
`tpot_client` and `client_latency` (`bench_serving`'s and vLLM's meaning: at the client, from the send); every other name above that
has one value a request may be used too, such as `latency_from_schedule`. A request of fewer than two tokens keeps any TPOT, a failed
one keeps nothing, and what is not known is not kept. `slo_attainment` is the share of good requests among all but those that Ctrl-C
took or that were never sent (turns after one that failed), with Wilson's 95 % limits; `request_goodput` is good requests a second.

## Parts of the requests

`by_worker`, `by_prefix_group`, `by_phase`, `by_session` and `by_turn` hold requests, successes, their tokens, cache hits and latencies
of each part (the first 1,000 by requests; `left_out` counts the rest); the summary shows ten of each. `by_turn` takes the first
turns of all sessions together, then the second ones and so on: with the history the prompts grow, and so should the cache hits.

Phases are those that `--faults` makes (below), else the stages of `--stages`: `stage 2 (10..100/s)` is all requests that were due in
the second stage, however late they were sent. The summary shows them in order of time; `stages` in `run.json` says when each begins.
";

const FAULTS: &str = "
## Failure schedule

Of `--faults` ([how to write one](fault-schedule.md)). Errors of a phase with a fault are told and not held against the run
(`errors_asked_for` in the verdict); a fault that was not made as asked makes it INVALID. `faults` in `run.json` has the phases,
each action with when it was asked for, begun and done, and of each fault:

| name | in the summary | definition |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    #[test]
    fn what_is_shown_has_its_number_and_its_definition() {
        let text = shown(&Metrics::of(&[example()]));
        assert!(
            text.contains("(ttft): mean 21.00 ms, p50 21.00 ms, p99 21.00 ms, n 1\n    server_first_token"),
            "{text}"
        );
        assert!(text.contains("Total input tokens (total_input_tokens)\n    prompt tokens by"), "{text}");
        assert!(!shown(&Metrics::of(&[])).contains("(ttft)"));
        assert!(quantity::all().all(|q| all().contains(&format!("({})", q.name))));
    }
}
