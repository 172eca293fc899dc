//! How much there is to compute of a prompt.
//!
//! Rule: the unit is a token of a short prompt. Each token is multiplied with all weights and attends to all tokens before it; the
//! second part grows with the context. Per token it is `4 × hidden × layers` operations a context token, where the first is two a
//! weight: they are equal at 30,000 context tokens for Llama-3.1-8B, at 53,000 for Llama-3.1-70B. Deliberately not here: time,
//! which the ledger learns; layers with sparse or linear attention, whose long prompts cost less than this says.

/// Context at which a token is twice the work.
const CONTEXT_TOKENS: f64 = 40_000.0;

/// Microseconds for a unit of work until anything is learned: 20,000 tokens a second, between an 8B model on one H100 and a 70B on
/// four.
pub(crate) const USUAL_WORK_US: f64 = 50.0;

/// Work of the last `new` tokens of a prompt, of which `held` before them are cached.
pub(crate) fn prefill_work(held: f64, new: f64) -> f64 {
    new * (1.0 + (held + new * 0.5) * (1.0 / CONTEXT_TOKENS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_far_behind_is_more_work_and_parts_add_up() {
        let work = |held, new| prefill_work(held, new).round() as u64;
        assert_eq!([work(0.0, 0.0), work(0.0, 1.0), work(0.0, 400.0)], [0, 1, 402]);
        assert_eq!((work(40_000.0, 1_000.0), work(0.0, 80_000.0)), (2_013, 160_000));
        let parts = prefill_work(0.0, 30_000.0) + prefill_work(30_000.0, 50_000.0);
        assert!((parts - prefill_work(0.0, 80_000.0)).abs() < 1e-6);
    }
}
