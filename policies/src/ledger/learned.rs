//! Numbers that are learned: averages that forget, a rate over time, and how long a prefill takes.
//!
//! Rule: what was seen first counts as much as what came later until there is enough to forget; a single wild value moves
//! nothing far. Deliberately not here: what is measured, and of whom.

use crate::view::Time;

/// Weight of the newest value in the moving averages.
const EWMA_WEIGHT: f64 = 0.2;

/// Moves an average towards a new value; the first one is the average.
pub(super) fn average(of: &mut Option<f64>, new: f64) {
    *of = Some(of.map_or(new, |old| old + EWMA_WEIGHT * (new - old)));
}

/// Once the average is known, a value that an answer claims counts as so many times that at most, and as such a part at least.
/// Lengths have long tails: with one answer of 4,000 tokens beside nine of 10, a limit of 4 would hold the average near 15, while one
/// of 16 lets it come to the 409 that it is.
const WILD: f64 = 16.0;

/// Moves an average towards a value that may be a lie.
pub(super) fn average_claimed(of: &mut Option<f64>, claimed: f64) {
    // From nothing no multiple leads anywhere.
    let known = of.map(|old| old.max(1.0));
    average(of, known.map_or(claimed, |known| claimed.clamp(known / WILD, known * WILD)));
}

/// Tokens a second over the last seconds: those of the window that runs, and as much of the one before as makes it whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    began_us: u64,
    window_us: u64,
    tokens: u64,
    tokens_before: u64,
}

impl Rate {
    const WINDOW_US: u64 = 10_000_000;

    /// `tokens` that took `us` and have just come.
    pub(super) fn add(rate: Option<Self>, now: Time, us: u64, tokens: u64) -> Self {
        let began_us = now.us.saturating_sub(us);
        let mut rate = rate.unwrap_or(Self { began_us, window_us: now.us, tokens: 0, tokens_before: 0 });
        let windows = now.us.saturating_sub(rate.window_us) / Self::WINDOW_US;
        if windows > 0 {
            rate.tokens_before = if windows == 1 { rate.tokens } else { 0 };
            rate.tokens = 0;
            rate.window_us += windows * Self::WINDOW_US;
        }
        rate.tokens = rate.tokens.saturating_add(tokens);
        rate
    }

    pub(super) fn tokens_per_s(&self, now: Time) -> f64 {
        let into_us = now.us.saturating_sub(self.window_us);
        let (tokens, before, into_us) = match into_us / Self::WINDOW_US {
            0 => (self.tokens, self.tokens_before, into_us),
            1 => (0, self.tokens, into_us - Self::WINDOW_US),
            _ => return 0.0,
        };
        let before = before as f64 * (1.0 - into_us as f64 * (1.0 / Self::WINDOW_US as f64));
        // What has just begun has not gone on for a whole window.
        let over_us = now.us.saturating_sub(self.began_us).clamp(1, Self::WINDOW_US);
        (tokens as f64 + before) * 1e6 / over_us as f64
    }
}

/// How long a prefill takes: `work × work_us`, and an overhead where the worker had none before, by least squares that
/// forget.
///
/// The overhead is what a first token takes beside computing: the way there and back, the tokeniser, the end of the decode step
/// that runs. Where one prompt follows another it passes while that one is computed. With prompts that are all alike and all
/// come to idle workers, the two cannot be told apart. Then the time of work seen last stays; before there was one, the
/// overhead is taken to be the usual one.
#[derive(Clone, Copy, Debug)]
pub(super) struct PrefillTime {
    // Sums over forward passes, old ones weighing less: i is 1 where the worker was idle before, else 0.
    count: f64,
    i: f64,
    i_work: f64,
    i_us: f64,
    work_squared: f64,
    work_times_us: f64,
    /// The two have been told apart.
    is_told_apart: bool,
    work_us: Option<f64>,
    overhead_us: f64,
}

impl Default for PrefillTime {
    fn default() -> Self {
        Self {
            count: 0.0,
            i: 0.0,
            i_work: 0.0,
            i_us: 0.0,
            work_squared: 0.0,
            work_times_us: 0.0,
            is_told_apart: false,
            work_us: None,
            overhead_us: Self::USUAL_OVERHEAD_US,
        }
    }
}

impl PrefillTime {
    /// Forward passes remembered: enough that a rare long prompt among short ones, which alone tells the two apart, is not
    /// forgotten.
    const MEMORY: f64 = 1_024.0;
    /// Passes from which on the result is trusted, and a wild value cut.
    const ENOUGH: f64 = 8.0;
    /// A wild value counts as so many times what was expected.
    const WILD: f64 = 4.0;
    /// The overhead until it is known: a local network, a prompt of some thousand bytes and half a decode step.
    const USUAL_OVERHEAD_US: f64 = 10_000.0;
    /// The two are told apart where the prompts that came to idle workers explain less than this of all the work.
    const ALIKE: f64 = 0.95;

    /// What a forward pass with so much work takes; `None` before anything was seen.
    pub(super) fn us(&self, work: f64, idle: bool) -> Option<f64> {
        self.work_us.map(|work_us| if idle { self.overhead_us } else { 0.0 } + work * work_us)
    }

    /// Time of one more unit of work, more than 0; `None` before anything was seen.
    pub(super) fn work_us(&self) -> Option<f64> {
        self.work_us
    }

    /// Time from sending a request to an idle worker to the beginning of its computing; the usual one before any was seen.
    pub(super) fn overhead_us(&self) -> f64 {
        self.overhead_us
    }

    /// Time of work if there were no overhead.
    fn most(&self) -> f64 {
        self.work_times_us / self.work_squared
    }

    /// A forward pass with `work`, at least 1, took `us`; the worker was idle before or not.
    pub(super) fn add(&mut self, work: f64, us: f64, idle: bool) {
        let expected = self.us(work, idle).filter(|_| self.count >= Self::ENOUGH);
        let us = expected.map_or(us, |expected| us.min(expected * Self::WILD)).max(1.0);
        let kept = 1.0 - 1.0 / Self::MEMORY;
        let i = f64::from(u8::from(idle));
        self.count = self.count * kept + 1.0;
        self.i = self.i * kept + i;
        self.i_work = self.i_work * kept + i * work;
        self.i_us = self.i_us * kept + i * us;
        self.work_squared = self.work_squared * kept + work * work;
        self.work_times_us = self.work_times_us * kept + work * us;
        self.fit();
    }

    fn fit(&mut self) {
        let (explained, all) = (self.i_work * self.i_work, self.i * self.work_squared);
        let told_apart = self.count >= Self::ENOUGH && explained <= Self::ALIKE * all.max(f64::MIN_POSITIVE);
        if told_apart {
            let slope = if self.i > 0.0 {
                (self.i * self.work_times_us - self.i_work * self.i_us) / (all - explained)
            } else {
                self.most()
            };
            self.work_us = Some(slope.clamp(self.most() / 8.0, self.most()));
        } else if !self.is_told_apart {
            let guess = (self.work_times_us - Self::USUAL_OVERHEAD_US * self.i_work) / self.work_squared;
            self.work_us = Some(guess.max(self.most() / 4.0));
        }
        self.is_told_apart |= told_apart;
        if let (Some(work_us), 0.5..) = (self.work_us, self.i) {
            self.overhead_us = ((self.i_us - work_us * self.i_work) / self.i).max(0.0);
        }
    }
}

/// How many times as long as expected something takes, by the last few.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slowness {
    expected_us: f64,
    us: f64,
    times: Option<f64>,
    seen_us: u64,
}

impl Slowness {
    /// Weighs about so many of the last ...
    const MEMORY: f64 = 8.0;
    /// ... and of a worker that is seldom asked, because it was slow, those of about so long.
    const MEMORY_US: f64 = 5_000_000.0;
    /// One that takes longer counts as so many times what was expected.
    const WILD: f64 = 8.0;
    /// What nothing has confirmed for so long no longer counts: a worker that was slow is tried again.
    const LASTS_US: u64 = 10_000_000;

    pub(super) fn add(&mut self, now: Time, expected_us: f64, us: f64) {
        let pause_us = now.us.saturating_sub(self.seen_us) as f64;
        let kept = (1.0 - 1.0 / Self::MEMORY) * (-pause_us / Self::MEMORY_US).exp();
        self.expected_us = self.expected_us * kept + expected_us;
        self.us = self.us * kept + us.min(expected_us * Self::WILD);
        self.times = Some(self.us / self.expected_us);
        self.seen_us = now.us;
    }

    /// 1: as expected; `None`: nothing was seen lately.
    pub(super) fn get(&self, now: Time) -> Option<f64> {
        self.times.filter(|_| now.us.saturating_sub(self.seen_us) <= Self::LASTS_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value / expected - 1.0).abs() < 0.1)
    }

    #[test]
    fn overhead_and_tokens_are_told_apart_where_prompts_differ_or_follow_each_other() {
        let mut differ = PrefillTime::default();
        assert_eq!((differ.us(10.0, true), differ.work_us()), (None, None));
        let mut follow = PrefillTime::default();
        for n in 0..40 {
            let tokens = [100.0, 400.0, 3_000.0][n % 3];
            differ.add(tokens, 15_000.0 + 30.0 * tokens, true);
            let idle = n % 2 == 0;
            follow.add(500.0, if idle { 30_000.0 } else { 15_000.0 }, idle);
        }
        for learned in [differ, follow] {
            assert!(
                near(learned.work_us(), 30.0) && near(Some(learned.overhead_us()), 15_000.0),
                "{learned:?}"
            );
        }
    }

    #[test]
    fn the_time_of_a_token_stays_while_prompts_are_alike_and_a_wild_value_moves_it_little() {
        let mut learned = PrefillTime::default();
        for tokens in [100.0, 4_000.0].repeat(10) {
            learned.add(tokens, 10_000.0 + 30.0 * tokens, true);
        }
        for _ in 0..5_000 {
            learned.add(200.0, 16_000.0, true);
        }
        assert!(near(learned.work_us(), 30.0), "{learned:?}");
        learned.add(4_000.0, 60e6, true);
        assert!(learned.work_us().is_some_and(|us| us < 130.0), "{learned:?}");
    }

    #[test]
    fn alike_from_the_start_they_have_the_usual_overhead() {
        let mut learned = PrefillTime::default();
        learned.add(1_000.0, 40_000.0, true);
        assert_eq!((learned.work_us(), learned.overhead_us().round()), (Some(30.0), 10_000.0));
        let mut quick = PrefillTime::default();
        quick.add(10.0, 1_000.0, true);
        assert_eq!(quick.work_us(), Some(25.0), "never nothing");
        let mut busy = PrefillTime::default();
        busy.add(1_000.0, 40_000.0, false);
        assert_eq!(busy.work_us(), Some(40.0));
    }

    #[test]
    fn slowness_follows_and_is_forgotten() {
        let mut slowness = Slowness::default();
        let at = |us| Time { us };
        assert_eq!(slowness.get(at(0)), None);
        (0..50).for_each(|_| slowness.add(at(5), 10.0, 12.0));
        assert!(near(slowness.get(at(5)), 1.2));
        (0..50).for_each(|_| slowness.add(at(9), 10.0, 30.0));
        assert!(near(slowness.get(at(9)), 3.0));
        assert_eq!(slowness.get(at(10 + Slowness::LASTS_US)), None);
    }
}
