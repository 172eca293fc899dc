//! What one worker's answers say of its cache: whether it was emptied, and how much text it holds.
//!
//! Rule: one answer proves little. A text may be rendered anew in the middle, a few tokens may be denser than was thought, and
//! what an engine has just computed it holds again; so an answer counts as *held* or *lost* only where it is clear
//! ([`Finding::of`]), and something follows only from several that agree:
//!
//! - **Emptied** (restarted, flushed): [`EMPTIED_AFTER`] answers in a row, each routed after the one before it was known, had
//!   nothing of what the worker had used as lately as other things that it still held; or nothing was ever held.
//! - **Capacity**: an engine gives up first what it used longest ago. Age is how much text came to the worker since. If among
//!   the last [`WINDOW`] findings [`LOST_AT_LEAST`] were lost that are older than all that was held, the worker holds as much
//!   text as the youngest of them is old, and never more than it was found to hold before. It is given twice as much when
//!   an engine has what was given up here.
//! - **Keeps nothing** (a server without a prefix cache): emptied [`EMPTIED_AGAIN`] times and nothing held in between.
//!
//! Deliberately not here: which texts these were (the parent module), and what the index does about it.

/// Findings that are remembered.
const WINDOW: usize = 16;
/// Complete losses in a row from which a worker was emptied.
const EMPTIED_AFTER: u32 = 3;
/// Times a worker was emptied, with nothing held in between, from which it is said to keep nothing.
const EMPTIED_AGAIN: u32 = 3;
/// Losses older than all that was held from which a capacity follows.
const LOST_AT_LEAST: usize = 3;
/// Least capacity that is learned, but for that of a worker that keeps nothing: every engine holds some prompts.
const MIN_CAPACITY_BYTES: u64 = 256 << 10;

/// Tokens that are not counted on: a page of 64, of which an engine caches whole ones only, the last token, which it always
/// computes, and what a template puts before the answer.
const SLACK_TOKENS: f64 = 96.0;
/// A part of a text has at most so many times the tokens that its length says, and at least one so-many-th.
const DENSITY: f64 = 3.0;
/// Less than this many tokens expected prove nothing.
const MIN_EXPECTED_TOKENS: f64 = 32.0;

/// What an answer says about what the worker was believed to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It was there.
    Held,
    /// Less than half of it was.
    Lost {
        /// Nothing of it was.
        entirely: bool,
    },
    /// Much more was there than was believed.
    MoreThanBelieved,
    /// Nothing clear.
    Unclear,
}

impl Finding {
    /// Of an answer to a prompt of `prompt_tokens`, of which `cached_tokens` came from the cache and `believed` (0 to 1, by
    /// length) was thought to be there. `is_counted`: the text is token ids, so that its length is exact.
    pub(super) fn of(believed: f64, is_counted: bool, prompt_tokens: u64, cached_tokens: u64) -> Self {
        let (prompt, cached) = (prompt_tokens as f64, cached_tokens as f64);
        let density = if is_counted { 1.0 } else { DENSITY };
        // The part that is believed is at least so much of the tokens: by what it may lack itself, and by what the rest may have.
        let least = (believed / density).max(1.0 - (1.0 - believed) * density);
        let expected = least * prompt - SLACK_TOKENS;
        if expected >= MIN_EXPECTED_TOKENS {
            return match cached {
                _ if cached >= expected => Self::Held,
                _ if cached * 2.0 < expected => Self::Lost { entirely: cached <= SLACK_TOKENS },
                _ => Self::Unclear,
            };
        }
        let most = believed * density * prompt + SLACK_TOKENS;
        if cached >= 4.0 * most { Self::MoreThanBelieved } else { Self::Unclear }
    }
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// Nothing.
    None,
    /// What it held before is gone.
    Emptied,
    /// It can hold so many bytes of text; `None`: nobody knows how much.
    Holds(Option<u64>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    since_bytes: u64,
    was_held: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// The last findings, oldest first.
    seen: Vec<Seen>,
    losses_in_a_row: u32,
    /// The choices that had been made when the last of these was known.
    known_at_choice: u64,
    emptied_in_a_row: u32,
    capacity_bytes: Option<u64>,
}

impl Evidence {
    /// `finding` of a request of choice number `choice`, about text that the worker had used `since_bytes` of other text ago;
    /// `choices` have been made by now.
    pub(super) fn weigh(&mut self, finding: Finding, since_bytes: u64, choice: u64, choices: u64) -> Lesson {
        match finding {
            Finding::Unclear => return Lesson::None,
            Finding::MoreThanBelieved => return self.give_more(),
            Finding::Held => (self.losses_in_a_row, self.emptied_in_a_row) = (0, 0),
            Finding::Lost { .. } => {}
        }
        let was_held = finding == Finding::Held;
        if self.seen.len() == WINDOW {
            self.seen.remove(0);
        }
        self.seen.push(Seen { since_bytes, was_held });
        let oldest_held = self.seen.iter().filter(|seen| seen.was_held).map(|seen| seen.since_bytes).max();
        let is_young = oldest_held.is_none_or(|held| since_bytes <= held);
        if finding == (Finding::Lost { entirely: true }) && is_young && choice > self.known_at_choice {
            self.known_at_choice = choices;
            self.losses_in_a_row += 1;
            if self.losses_in_a_row == EMPTIED_AFTER {
                return self.emptied();
            }
        }
        oldest_held.map_or(Lesson::None, |held| self.bound(held))
    }

    fn emptied(&mut self) -> Lesson {
        // They say nothing of how much it holds.
        self.seen.retain(|seen| seen.was_held);
        self.losses_in_a_row = 0;
        self.emptied_in_a_row += 1;
        if self.emptied_in_a_row < EMPTIED_AGAIN {
            return Lesson::Emptied;
        }
        self.capacity_bytes = Some(0);
        Lesson::Holds(Some(0))
    }

    /// The capacity that follows from losses older than `oldest_held_bytes`.
    fn bound(&mut self, oldest_held_bytes: u64) -> Lesson {
        let older = self.seen.iter().filter(|seen| !seen.was_held && seen.since_bytes > oldest_held_bytes);
        if older.clone().count() < LOST_AT_LEAST {
            return Lesson::None;
        }
        let youngest = older.map(|seen| seen.since_bytes).min().unwrap_or(u64::MAX).max(MIN_CAPACITY_BYTES);
        if self.capacity_bytes.is_some_and(|capacity| capacity <= youngest) {
            return Lesson::None;
        }
        self.capacity_bytes = Some(youngest);
        Lesson::Holds(self.capacity_bytes)
    }

    fn give_more(&mut self) -> Lesson {
        let Some(capacity) = self.capacity_bytes else {
            return Lesson::None;
        };
        // Or the old losses would bound it again at once.
        self.seen.retain(|seen| seen.was_held);
        self.emptied_in_a_row = 0;
        self.capacity_bytes = (capacity > 0).then(|| capacity.saturating_mul(2));
        Lesson::Holds(self.capacity_bytes)
    }

    /// Whether it was found to keep nothing.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> Option<u64> {
        self.capacity_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const LOST: Finding = Finding::Lost { entirely: true };

    /// One after another, each routed when the one before was known.
    fn weigh(evidence: &mut Evidence, found: &[(Finding, u64)]) -> Vec<Lesson> {
        let began = evidence.known_at_choice;
        let weighed = (1..).zip(found);
        weighed.map(|(n, &(f, since))| evidence.weigh(f, since, began + n, began + n)).collect()
    }

    #[test]
    fn what_pages_templates_and_density_explain_is_no_loss() {
        let of = |believed, tokens, cached| Finding::of(believed, false, tokens, cached);
        // All of a short prompt may lie within one page.
        assert_eq!(of(1.0, 90, 0), Finding::Unclear);
        // Pages of 64, the last token and a template's end are missing.
        assert_eq!(of(1.0, 1_000, 1_000 - 65 - 20), Finding::Held);
        assert_eq!(of(1.0, 1_000, 0), LOST);
        assert_eq!(of(1.0, 1_000, 40), LOST);
        assert_eq!(of(1.0, 1_000, 300), Finding::Lost { entirely: false });
        assert_eq!(of(1.0, 1_000, 600), Finding::Unclear);
        // Half of the text is believed: it may be the thin half.
        assert_eq!(of(0.5, 3_000, 500), Finding::Held);
        assert_eq!(of(0.5, 3_000, 0), LOST);
        // Ids are counted.
        assert_eq!(Finding::of(0.5, true, 3_000, 500), Finding::Lost { entirely: false });
        assert_eq!(Finding::of(0.5, true, 3_000, 1_500), Finding::Held);
        // Much is there of what was not believed, more than a template has.
        assert_eq!(of(0.0, 3_000, 2_900), Finding::MoreThanBelieved);
        assert_eq!(of(0.0, 3_000, 90), Finding::Unclear);
        assert_eq!(of(0.0, 0, 0), Finding::Unclear);
        assert_eq!(of(f64::NAN, u64::MAX, u64::MAX), Finding::Unclear);
    }

    #[test]
    fn a_worker_that_lost_what_it_used_lately_was_emptied() {
        let mut evidence = Evidence::default();
        weigh(&mut evidence, &[(Finding::Held, 900 * KIB), (Finding::Held, 10 * KIB)]);
        let lessons = weigh(&mut evidence, &[(LOST, 40 * KIB), (LOST, 3 * KIB), (LOST, 500 * KIB)]);
        assert_eq!(lessons, [Lesson::None, Lesson::None, Lesson::Emptied]);
        // It goes on as any other.
        let lessons = weigh(&mut evidence, &[(Finding::Held, KIB), (LOST, 2 * KIB), (Finding::Held, KIB)]);
        assert_eq!(lessons, [Lesson::None; 3]);
    }

    #[test]
    fn requests_that_were_on_their_way_together_are_one_loss() {
        let mut evidence = Evidence::default();
        weigh(&mut evidence, &[(Finding::Held, 900 * KIB)]);
        // Choices 10 to 14 had all been made when the first of them was answered.
        for choice in 10..15 {
            assert_eq!(evidence.weigh(LOST, KIB, choice, 15), Lesson::None);
        }
    }

    #[test]
    fn a_loss_among_things_held_says_nothing() {
        let mut evidence = Evidence::default();
        let found = [(LOST, 5 * KIB), (Finding::Held, 5 * KIB), (LOST, 6 * KIB), (Finding::Held, 900 * KIB)];
        for _ in 0..20 {
            assert_eq!(weigh(&mut evidence, &found), [Lesson::None; 4]);
        }
    }

    #[test]
    fn losses_older_than_all_that_was_held_tell_how_much_it_holds() {
        let mut evidence = Evidence::default();
        let found = [(800, false), (300, true), (950, false), (10, true), (700, false), (720, false)];
        let found = found.map(|(kib, held)| (if held { Finding::Held } else { LOST }, kib * KIB));
        let lessons = weigh(&mut evidence, &found);
        assert_eq!(lessons[..4], [Lesson::None; 4]);
        assert_eq!(lessons[4..], [Lesson::Holds(Some(700 * KIB)), Lesson::None]);
        // What was given up here is still there: the bound was too low.
        assert_eq!(evidence.weigh(Finding::MoreThanBelieved, 0, 9, 9), Lesson::Holds(Some(1_400 * KIB)));
        assert_eq!(evidence.weigh(Finding::Held, KIB, 10, 10), Lesson::None);
    }

    #[test]
    fn no_engine_is_thought_to_hold_next_to_nothing_for_its_losses() {
        let mut evidence = Evidence::default();
        let found = [(Finding::Held, 0), (LOST, 2 * KIB), (LOST, KIB), (LOST, KIB)];
        assert_eq!(weigh(&mut evidence, &found)[3], Lesson::Holds(Some(MIN_CAPACITY_BYTES)));
    }

    #[test]
    fn a_worker_without_a_cache_keeps_nothing_until_it_shows_that_it_does() {
        let mut evidence = Evidence::default();
        let lessons = weigh(&mut evidence, &[(LOST, KIB); 9]);
        assert_eq!(
            (lessons[2], lessons[5], lessons[8]),
            (Lesson::Emptied, Lesson::Emptied, Lesson::Holds(Some(0)))
        );
        assert_eq!(evidence.capacity_bytes(), Some(0));
        assert_eq!(evidence.weigh(Finding::MoreThanBelieved, 0, 20, 20), Lesson::Holds(None));
        assert_eq!(evidence.weigh(Finding::MoreThanBelieved, 0, 21, 21), Lesson::None);
    }
}
