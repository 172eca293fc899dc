//! The order in which sessions are planned: what has a due time of its own first, then the turns that wait.
//!
//! Rule: a turn whose session does not begin is not planned. Deliberately not here: waiting (`load::turns`).

use super::{After, Prompt};
use crate::load::schedule::Wait;

/// How many prompts have a due time of their own.
pub fn starts(prompts: &[Prompt]) -> usize {
    prompts.iter().filter(|prompt| !is_later_turn(prompt)).count()
}

/// Whether a prompt waits for the answer to another.
pub fn is_later_turn(prompt: &Prompt) -> bool {
    prompt.after().is_some()
}

/// The first `most` prompts with due times of their own, in their order, then the turns that follow from them. A turn stands
/// behind the one that it waits for, before and after.
pub fn arrange(mut prompts: Vec<Prompt>, most: usize) -> Vec<Prompt> {
    if !prompts.iter().any(is_later_turn) {
        // In order as they are; there may be millions.
        prompts.truncate(most);
        return prompts;
    }
    let mut new_place: Vec<Option<usize>> = vec![None; prompts.len()];
    let (mut arranged, mut later) = (Vec::with_capacity(prompts.len()), Vec::new());
    for (index, prompt) in prompts.into_iter().enumerate() {
        if is_later_turn(&prompt) {
            later.push((index, prompt));
        } else if arranged.len() < most {
            new_place[index] = Some(arranged.len());
            arranged.push(prompt);
        }
    }
    for (index, mut prompt) in later {
        let after = prompt.turn.as_mut().and_then(|turn| turn.after.as_mut());
        let moved = after.and_then(|after| {
            after.prompt = new_place[after.prompt]?;
            Some(())
        });
        if moved.is_some() {
            new_place[index] = Some(arranged.len());
            arranged.push(prompt);
        }
    }
    arranged
}

/// What each prompt waits for that waits, in order.
pub fn waits(prompts: &[Prompt]) -> Vec<Wait> {
    let wait = |after: &After| Wait {
        after: after.prompt,
        think_ns: after.think_ns,
        not_before_ns: after.not_before_ns,
    };
    prompts.iter().filter_map(|prompt| prompt.after().map(wait)).collect()
}

/// Lets turns wait as a saved schedule says. False, and nothing is changed, where its turns are not those of the prompts.
pub fn wait_as(prompts: &mut [Prompt], saved: &[Wait]) -> bool {
    let same = |(own, saved): (&Wait, &Wait)| own.after == saved.after;
    let own = waits(prompts);
    if own.len() != saved.len() || !own.iter().zip(saved).all(same) {
        return false;
    }
    let turns = prompts.iter_mut().filter_map(|prompt| prompt.turn.as_mut()?.after.as_mut());
    for (after, saved) in turns.zip(saved) {
        (after.think_ns, after.not_before_ns) = (saved.think_ns, saved.not_before_ns);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::dataset::{Content, Turn};

    #[test]
    fn turns_come_behind_what_they_wait_for_and_go_with_it() {
        let prompt = |name: u64, after: Option<usize>| Prompt {
            id: None,
            content: Content::Text(String::new()),
            planned_tokens: name,
            output_tokens: 1,
            group: None,
            turn: Some(Turn {
                session: 1,
                turn: 1,
                after: after.map(|prompt| After {
                    prompt,
                    think_ns: 0,
                    not_before_ns: 0,
                    carries_reply: false,
                }),
            }),
        };
        let all = vec![
            prompt(0, None),
            prompt(1, Some(0)),
            prompt(2, None),
            prompt(3, Some(2)),
            prompt(4, Some(1)),
        ];
        let seen = |arranged: Vec<Prompt>| -> Vec<(u64, Option<usize>)> {
            arranged
                .into_iter()
                .map(|p| (p.planned_tokens, p.turn.and_then(|t| t.after).map(|a| a.prompt)))
                .collect()
        };
        assert_eq!(starts(&all), 2);
        assert_eq!(
            seen(arrange(all.clone(), 9)),
            [(0, None), (2, None), (1, Some(0)), (3, Some(1)), (4, Some(2))]
        );
        assert_eq!(seen(arrange(all, 1)), [(0, None), (1, Some(0)), (4, Some(1))]);
    }
}
