//! Routing policies by name, and what routes a request by its headers.

use crate::client::send_with;
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};

const HIDDEN: &str = "sglang-router has it, though not on this command line";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Policies",
    groups: &[
        Group {
            flags: "",
            workers: 0,
            cases: &[
                same("--policy cache_aware", |s| starts(s, "cache_aware"), "starts"),
                same("--policy random", |s| starts(s, "random"), "starts"),
                same("--policy power_of_two", |s| starts(s, "power_of_two"), "starts"),
                same("--policy manual", |s| starts(s, "manual"), "starts"),
                differs(
                    "--policy shortest_queue",
                    |s| starts(s, "shortest_queue"),
                    "refused, naming the flag",
                    "starts",
                    "milepost has it",
                ),
                differs(
                    "--policy consistent_hashing",
                    |s| starts(s, "consistent_hashing"),
                    "refused, naming the flag",
                    "starts",
                    HIDDEN,
                ),
                differs(
                    "--policy prefix_hash",
                    |s| starts(s, "prefix_hash"),
                    "refused, naming the flag",
                    "starts",
                    HIDDEN,
                ),
                differs(
                    "--policy bucket",
                    |s| starts(s, "bucket"),
                    "refused, naming the flag",
                    "starts",
                    HIDDEN,
                ),
                same(
                    "--policy with a name nobody knows",
                    |s| starts(s, "no_such_policy"),
                    "refused, naming the flag",
                ),
            ],
        },
        Group {
            flags: "--policy round_robin",
            workers: 2,
            cases: &[same("round_robin: 6 requests", |s| many(s, 6, |_| PROMPT.to_owned()), "3 and 3")],
        },
        Group {
            flags: "--policy cache_aware",
            workers: 2,
            cases: &[
                same("cache_aware: 6 times one prompt", |s| many(s, 6, |_| PROMPT.to_owned()), "0 and 6"),
                differs(
                    "cache_aware: 12 prompts of their own, one after the other",
                    |s| many(s, 12, distinct),
                    "0 and 12",
                    "6 and 6",
                    "equal workers share what matches nowhere",
                ),
            ],
        },
        Group {
            flags: "--policy manual",
            workers: 2,
            cases: &[
                same("manual: 6 requests with one X-SMG-Routing-Key", one_key, "0 and 6"),
                same("manual: 40 keys of their own", forty_keys, "on both workers"),
            ],
        },
    ],
};

/// With two workers that need not be there: `power_of_two` wants two.
fn starts(s: &Stage, policy: &str) -> String {
    super::flags::starts(s, &format!("--policy {policy} --worker-urls http://127.0.0.1:1 http://127.0.0.1:2"))
}

fn distinct(n: usize) -> String {
    format!(
        "{{\"text\":\"{n} is how the prompt number {n} begins\",\"sampling_params\":{{\"max_new_tokens\":1}}}}"
    )
}

/// How requests are spread: the worker with fewer first.
fn many(s: &Stage, requests: usize, body: impl Fn(usize) -> String) -> String {
    for n in 0..requests {
        s.post("/generate", &body(n));
    }
    spread(s)
}

fn spread(s: &Stage) -> String {
    let mut counts: Vec<usize> = s.workers.iter().map(|w| w.got().len()).collect();
    counts.sort_unstable();
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    counts.join(" and ")
}

fn keyed(s: &Stage, key: &str) {
    s.send(send_with("POST", "/generate", &format!("x-smg-routing-key: {key}\r\n"), PROMPT));
}

fn one_key(s: &Stage) -> String {
    (0..6).for_each(|_| keyed(s, "one"));
    spread(s)
}

fn forty_keys(s: &Stage) -> String {
    (0..40).for_each(|n| keyed(s, &format!("key-{n}")));
    let both = s.workers.iter().all(|w| !w.got().is_empty());
    if both { "on both workers" } else { "on one worker" }.to_owned()
}
