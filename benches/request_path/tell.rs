//! The steps as tables: the budget of a request, policies, fleets, the lock and what 64 cores would do.

use std::fmt::Write;

use super::{FLEETS, PROMPTS, Steps, TRACED_FLEET};
use crate::table::{Table, short};

/// Requests a second at which the lock's use is told.
const AIM_PER_S: f64 = 20_000.0;
/// Share of the time that the lock may be held.
const AIM_SHARE: f64 = 0.30;
const MANY_CORES: f64 = 64.0;

/// Key, title and text of each section. `whole_us`: CPU of the headline for a small request, where it was measured.
pub fn sections(steps: &Steps, whole_us: Option<f64>) -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("budget", "The budget of a request", budget(steps, whole_us)),
        ("policies", "Policies", policies(steps)),
        ("lock", "The decision's lock, and 64 cores", lock(steps, whole_us)),
    ]
}

fn budget(steps: &Steps, whole_us: Option<f64>) -> String {
    let mut table = Table::new(["a request of 120 B, one worker, cache_aware with trace", "ns"]);
    let one = steps.fleets.first();
    let parts = [
        ("heads read: the client's, the worker's", steps.request_head_ns + steps.response_head_ns),
        ("look at the body, hash of the prompt", steps.look_ns[0] + steps.hash_ns[0]),
        ("choose and lease", one.map_or(0.0, |one| one.choose_ns)),
        ("heads written, without the stamps", (steps.heads_written_ns - steps.stamps_ns).max(0.0)),
        ("stamps in both heads", steps.stamps_ns),
        ("look at the answer", steps.answer_ns),
        ("record made, metrics told, handed over", one.map_or(0.0, |one| one.record_ns)),
        ("record serialised", one.map_or(0.0, |one| one.serialise_ns)),
    ];
    for (name, ns) in &parts {
        table.row(*name, [short(*ns)]);
    }
    let sum_ns: f64 = parts.iter().map(|(_, ns)| ns).sum();
    table.row("sum", [short(sum_ns)]);
    if let Some(us) = whole_us {
        table.row("rest: system calls, runtime, copies", [short(us * 1e3 - sum_ns)]);
        table.row("end to end, sixteen at once", [short(us * 1e3)]);
    }
    let mut looks = Table::new(["prompt", "look, ns", "hash, ns"]);
    for (i, bytes) in PROMPTS.iter().enumerate() {
        looks.row(format!("{bytes} B"), [short(steps.look_ns[i]), short(steps.hash_ns[i])]);
    }
    let mut fleets =
        Table::new(["workers", "choose, ns", "record, ns", "serialise, ns", "bytes a record", "sum, µs"]);
    for step in &steps.fleets {
        let all_us = (step.choose_ns + step.record_ns + step.serialise_ns) / 1e3;
        let cells = [step.choose_ns, step.record_ns, step.serialise_ns, step.record_bytes, all_us];
        fleets.row(step.workers.to_string(), cells.map(short));
    }
    let traced = format!(
        "With {TRACED_FLEET} candidates the trace costs {} ns on the request's path ({} on, {} off) and {} ns in the writer.",
        short(steps.record_traced_ns - steps.record_untraced_ns),
        short(steps.record_traced_ns),
        short(steps.record_untraced_ns),
        short(steps.writer_ns)
    );
    format!("{}\n{}\n{}\n{traced}\n", table.text(), looks.text(), fleets.text())
}

fn policies(steps: &Steps) -> String {
    let head = FLEETS.iter().map(|workers| format!("{workers} workers"));
    let mut table = Table::new(std::iter::once("ns, decision with its lease".to_owned()).chain(head));
    for (name, times) in &steps.policies {
        table.row(*name, times.iter().map(|ns| short(*ns)));
    }
    table.text()
}

fn lock(steps: &Steps, whole_us: Option<f64>) -> String {
    let mut table = Table::new(["threads that only decide", "ns a decision, all together", "decisions/s"]);
    for step in &steps.lock {
        table.row(step.threads.to_string(), [short(step.each_ns), short(1e9 / step.each_ns)]);
    }
    let choose_ns =
        steps.fleets.iter().find(|step| step.workers == TRACED_FLEET).map_or(0.0, |step| step.choose_ns);
    let free_ns = choose_ns + steps.observe_ns;
    // Of one thread it is no lock that takes the time.
    let crowds = steps.lock.iter().filter(|step| step.threads > 1);
    let wanted_ns = crowds.map(|step| step.each_ns).fold(free_ns, f64::max);
    let percent = |ns: f64| short(ns * AIM_PER_S / 1e7);
    let mut text = format!(
        "{}\nA request of {TRACED_FLEET} workers holds the lock for at most {} ns (decision, lease and the word of the end, all of \
         them counted as held), and takes {} ns of it where every thread does nothing but decide, hand-over included. Use at \
         20,000 requests/s = held × rate: {} %, and at worst {} % (aim: {:.0} %).\n",
        table.text(),
        short(free_ns),
        short(wanted_ns),
        percent(free_ns),
        percent(wanted_ns),
        AIM_SHARE * 100.0
    );
    if let Some(us) = whole_us {
        let by_cores = MANY_CORES * 1e6 / us;
        let [free, wanted] = [free_ns, wanted_ns].map(|ns| 1e9 / ns);
        let _ = write!(
            text,
            "\n64 cores, by calculation. By CPU: 64 × 1 s / {} µs = {} requests/s. By the lock: 1 s / {} ns = {} if it is found \
             free, 1 s / {} ns = {} if it is always wanted. So 64 cores give {} to {} requests/s, and the lock stays below \
             {:.0} % up to {}.\n",
            short(us),
            short(by_cores),
            short(free_ns),
            short(free),
            short(wanted_ns),
            short(wanted),
            short(by_cores.min(wanted)),
            short(by_cores.min(free)),
            AIM_SHARE * 100.0,
            short(AIM_SHARE * wanted)
        );
    }
    text
}
