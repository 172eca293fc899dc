//! `lowest_ttft`: the worker where the request costs the least time, its own until the first token and that of others.
//!
//! ```text
//! cost    = queue + prefill + decode + spread                                        microseconds, the part names of the trace
//! queue   = time of the prompts in its line that are not cached, less what it has done of them, more what it is late
//!           (WorkerView::prefill_wait_us), + until a request ends where batch or KV cache are full
//! prefill = work on the tokens of this prompt that it does not hold ÷ its learned rate
//! decode  = 0.05 × prefill × answers that run there + 0.006 × output tokens to come there × time of one
//! spread  = 0.25 × work on tokens that another worker holds + up to 0.1 × prefill for whoever was chosen lately
//! ```
//!
//! So a prefix is computed at a second worker when its holder's queue costs over 1.25 times the computing; a hot prefix
//! gets as many holders as it needs, a cold one stays where it is. The reason says which: `most_cached`, `recompute` (another
//! worker holds more, and it costs more there) or `nothing_cached`.
//!
//! Queue and prefill are what users of other routers asked for (vLLM #20962, production-stack #583: queue time + uncached tokens
//! × time of one) and what NVIDIA Dynamo counts in blocks (`prefill + decode_blocks`). Here all is time, so workers may be
//! unequal and nothing has to be weighed against blocks. `LMetric` (arXiv 2603.15202) multiplies new prefill tokens by the batch:
//! no weights, but a request that is mostly cached then leaves a busy holder for an idle worker that has nothing; `STALL` is
//! that product as a small addend. Preble's E2 (ICLR 2025) prices a GPU by its load in time, what the request evicts, and its own
//! prefill: `COPY` is the second of these, without a histogram of who would be evicted. What the numbers are, and why, is in
//! `cost`; the results of the virtual-time bench change slowly with each.
//!
//! What is not known: a worker without a rate has the mean of the others', all without one a usual value, so a new worker is
//! neither flooded (what is sent there counts at once) nor left out. A rate that nothing confirms for ten seconds no longer
//! counts, so that a worker which was slow is tried again. A worker that hangs gets more expensive as long as it does.
//! Deliberately not here: workers that fail quickly, which are the breaker's; learning, which is the ledger's.

mod cost;
#[cfg(test)]
mod tests;

use crate::decision::Decision;
use crate::policy::{Needs, Policy};
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, Workers};
use cost::{Cost, Pricing, full};

/// Workers of a small fleet: as many as a decision record holds whole.
const FEW: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct LowestTtft;

impl LowestTtft {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "lowest_ttft",
        about: "the worker with the least estimated time to first token: its queue, what is not cached, the answers there",
        build: |_| Box::new(Self),
    };
}

impl Policy for LowestTtft {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn needs(&self) -> Needs {
        Needs {
            prefix_match: true,
            engine_text: true,
            estimates: true,
            server_loads: true,
            ..Needs::default()
        }
    }

    /// Scores are costs in microseconds, negated. Equal ones go to the worker that was not chosen for longest. The parts are
    /// those of all workers of a small fleet, and of the chosen one of a large one.
    fn choose(&mut self, _now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        let pricing = Pricing::of(request, workers);
        let tells_all = workers.len() <= FEW;
        out.name_parts(&Cost::PARTS);
        let mut best = (0, f64::INFINITY, u64::MAX);
        for (index, worker) in workers.iter().enumerate() {
            let cost = pricing.cost(worker);
            let cost_us = cost.total_us();
            match full(worker) {
                Some(why) => out.score_with(index, -cost_us, why),
                None => out.score(index, -cost_us),
            }
            if tells_all {
                out.parts(index, &cost.parts());
            }
            let (_, least_us, longest_seq) = best;
            if cost_us.total_cmp(&least_us).then(worker.last_chosen_seq.cmp(&longest_seq)).is_lt() {
                best = (index, cost_us, worker.last_chosen_seq);
            }
        }
        let Some(chosen) = workers.get(best.0) else {
            return;
        };
        if !tells_all {
            out.parts(best.0, &pricing.cost(chosen).parts());
        }
        let reason = match pricing.most_held_tokens() {
            0 => "nothing_cached",
            most if pricing.held_tokens(chosen) == most => "most_cached",
            _ => "recompute",
        };
        out.choose(best.0, reason);
    }
}
