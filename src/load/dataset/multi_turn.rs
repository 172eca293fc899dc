//! `multi-turn`: users who talk with the model, each turn on top of all before and of the answers that really came.
//!
//! Users begin as the arrivals say; a user's next turn comes so long after the answer as thinking takes. As many requests as
//! users times turns. Deliberately not here: waiting and joining texts (`load::turns`).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::{check_length, check_ratio, draw};
use super::words::{check_held, random_words};
use super::{After, Content, DatasetError, Loaded, Prompt, Turn, approximate_tokens};

/// Requests at most.
const MOST_REQUESTS: u64 = 1_000_000;

/// Options of `multi-turn`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiTurnOptions {
    /// Users, each with one conversation.
    pub users: u32,
    /// Turns of each.
    pub turns: u32,
    /// System texts; users have them in turn.
    pub groups: u32,
    /// Words of a system text.
    pub system_tokens: u64,
    /// Words of a question.
    pub question_tokens: u64,
    /// Output tokens to ask for.
    pub output_tokens: u64,
    /// Smallest length as a share of the largest.
    pub range_ratio: f64,
    /// Mean time from an answer to the next question, seconds.
    pub think_s: f64,
    /// Think times are all the same instead of exponential.
    pub constant_think: bool,
}

impl Default for MultiTurnOptions {
    fn default() -> Self {
        Self {
            users: 16,
            turns: 4,
            groups: 4,
            system_tokens: 512,
            question_tokens: 64,
            output_tokens: 128,
            range_ratio: 1.0,
            think_s: 1.0,
            constant_think: false,
        }
    }
}

pub(super) fn make(o: &MultiTurnOptions, seed: u64) -> Result<Loaded, DatasetError> {
    check(o)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let text = |rng: &mut ChaCha8Rng, tokens: u64| {
        let words = draw(rng, tokens, o.range_ratio);
        random_words(rng, words)
    };
    let systems: Vec<String> = (0..o.groups).map(|_| text(&mut rng, o.system_tokens)).collect();
    let mut prompts: Vec<Prompt> = Vec::with_capacity(o.users as usize * o.turns as usize);
    for turn in 1..=o.turns {
        for user in 0..o.users {
            let group = user % o.groups;
            let question = text(&mut rng, o.question_tokens);
            let before = prompts.len().checked_sub(o.users as usize);
            let (said, words) = match before {
                None => (0, format!("{}\n\n{question}", systems[group as usize])),
                Some(before) => (prompts[before].planned_tokens + prompts[before].output_tokens, question),
            };
            let after = before.map(|prompt| After {
                prompt,
                think_ns: think_ns(&mut rng, o),
                not_before_ns: 0,
                carries_reply: true,
            });
            prompts.push(Prompt {
                id: None,
                planned_tokens: said + approximate_tokens(&words),
                content: Content::Text(words),
                output_tokens: draw(&mut rng, o.output_tokens, o.range_ratio),
                group: Some(group),
                turn: Some(Turn { session: user + 1, turn, after }),
            });
        }
    }
    let note = format!(
        "multi-turn: {} users with {} turns each (token lengths are about one a word; later turns begin with the answers that came)",
        o.users, o.turns
    );
    Ok(Loaded { prompts, notes: vec![note], at_ns: None })
}

fn think_ns(rng: &mut ChaCha8Rng, o: &MultiTurnOptions) -> u64 {
    let share = if o.constant_think { 1.0 } else { -(1.0 - rng.random::<f64>()).ln() };
    (share * o.think_s * 1e9) as u64
}

fn check(o: &MultiTurnOptions) -> Result<(), DatasetError> {
    check_length("--mt-system-prompt-len", o.system_tokens)?;
    check_length("--mt-question-len", o.question_tokens)?;
    check_length("--mt-output-len", o.output_tokens)?;
    check_ratio("--mt-range-ratio", o.range_ratio)?;
    let all = u64::from(o.users) * u64::from(o.turns);
    let what = if !(1..=MOST_REQUESTS).contains(&all) {
        format!("--mt-users times --mt-turns: expected 1 to {MOST_REQUESTS}, got {all}")
    } else if o.groups == 0 {
        "--mt-groups: expected at least 1".to_owned()
    } else if !(0.0..=86_400.0).contains(&o.think_s) {
        format!("--mt-think-time: expected 0 to 86400 seconds, got {}", o.think_s)
    } else {
        // The first turn of each user has a system text before it.
        let systems = u64::from(o.groups) + u64::from(o.users);
        let words = all * o.question_tokens + systems * o.system_tokens;
        return check_held(
            words,
            "--mt-users, --mt-turns, --mt-groups, --mt-system-prompt-len or --mt-question-len",
        );
    };
    Err(DatasetError::new(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_waits_for_the_one_before_it_of_its_user() {
        let o = MultiTurnOptions { users: 3, turns: 2, groups: 2, ..MultiTurnOptions::default() };
        let made = make(&o, 5).unwrap();
        assert_eq!(made, make(&o, 5).unwrap());
        let turns: Vec<_> = made.prompts.iter().filter_map(|p| p.turn.as_ref()).collect();
        assert_eq!(
            turns.iter().map(|t| (t.session, t.turn)).collect::<Vec<_>>(),
            [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
        );
        assert_eq!(turns[4].after.as_ref().map(|a| (a.prompt, a.carries_reply)), Some((1, true)));
        let Content::Text(question) = &made.prompts[3].content else { panic!("a text") };
        let said = made.prompts[0].planned_tokens + 128;
        assert_eq!(made.prompts[3].planned_tokens, said + approximate_tokens(question));
    }

    #[test]
    fn think_times_have_the_mean_asked_for() {
        let o = MultiTurnOptions {
            users: 2000,
            turns: 2,
            system_tokens: 1,
            question_tokens: 1,
            think_s: 3.0,
            ..MultiTurnOptions::default()
        };
        let times: Vec<f64> = make(&o, 1)
            .unwrap()
            .prompts
            .iter()
            .filter_map(|p| Some(p.turn.as_ref()?.after.as_ref()?.think_ns as f64 / 1e9))
            .collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        // Four standard errors of an exponential mean.
        assert!((mean - 3.0).abs() < 4.0 * 3.0 / (times.len() as f64).sqrt(), "{mean}");
        let told = make(&MultiTurnOptions { question_tokens: 1_000_000, ..o }, 1).unwrap_err().to_string();
        assert!(told.contains("some 24 GB") && told.contains("smaller --mt-users"), "{told}");
        assert!(make(&MultiTurnOptions { users: 0, ..o }, 1).unwrap_err().to_string().contains("--mt-users"));
        assert!(
            make(&MultiTurnOptions { think_s: -1.0, ..o }, 1)
                .unwrap_err()
                .to_string()
                .contains("--mt-think-time")
        );
    }
}
