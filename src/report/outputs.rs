//! Who says something else than the others.
//!
//! Rule: the text that most workers gave is what the others are held against, of equals that of the first worker; every
//! difference is shown where it begins. Deliberately not here: asking (`load::outputs`).

use std::fmt::Write as _;

use crate::load::outputs::Said;

/// Characters shown before a difference, and from it on.
const BEFORE: usize = 12;
const AFTER: usize = 40;

/// What came of one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Workers that said what most said.
    pub alike: usize,
    /// Workers that said something else.
    pub differing: usize,
    /// Workers that gave no text.
    pub silent: usize,
    /// Lines for the user.
    pub text: String,
}

/// Compares what workers said to one prompt.
pub fn compare(prompt: &str, said: &[Said]) -> Compared {
    let texts: Vec<&str> = said.iter().filter_map(|s| s.text.as_deref().ok()).collect();
    let agreeing = |text: &str| texts.iter().filter(|other| **other == text).count();
    let mut most: Option<&str> = None;
    for text in &texts {
        if most.is_none_or(|most| agreeing(text) > agreeing(most)) {
            most = Some(text);
        }
    }
    let mut out = Compared::default();
    let mut lines = String::new();
    for Said { worker, text } in said {
        // A string takes everything.
        let _ = match (text, most) {
            (Ok(text), Some(most)) if text == most => {
                out.alike += 1;
                Ok(())
            }
            (Ok(text), most) => {
                out.differing += 1;
                writeln!(lines, "  {worker} {}", difference(text, most.unwrap_or_default()))
            }
            (Err(why), _) => {
                out.silent += 1;
                writeln!(lines, "  {worker} gave no text: {why}")
            }
        };
    }
    out.text = format!("{:?}: {} of {} workers alike\n{lines}", cut(prompt, 0, AFTER), out.alike, said.len());
    out
}

fn difference(text: &str, most: &str) -> String {
    let common = text.chars().zip(most.chars()).take_while(|(a, b)| a == b).count();
    let from = common.saturating_sub(BEFORE);
    let shown = |text: &str| cut(text, from, BEFORE + AFTER);
    format!("differs from character {} on: {:?} where most say {:?}", common + 1, shown(text), shown(most))
}

/// At most `count` characters from `from` on, with dots where something is left out.
fn cut(text: &str, from: usize, count: usize) -> String {
    let mut shown: String = text.chars().skip(from).take(count).collect();
    if from > 0 {
        shown.insert(0, '…');
    }
    if text.chars().nth(from + count).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: &[Result<&str, &str>]) -> Vec<Said> {
        let each = texts.iter().zip('a'..);
        each.map(|(text, name)| Said {
            worker: format!("http://{name}:1"),
            text: text.map(str::to_owned).map_err(str::to_owned),
        })
        .collect()
    }

    #[test]
    fn most_are_right_and_the_others_are_shown_where_they_leave() {
        let long = "The quick brown fox jumps over the läzy dog";
        let compared = compare(
            "Say it",
            &said(&[Ok("The quick brown fox sleeps"), Ok(long), Err("connect: no"), Ok(long)]),
        );
        assert_eq!((compared.alike, compared.differing, compared.silent), (2, 1, 1));
        for part in [
            "\"Say it\": 2 of 4 workers alike",
            "http://a:1 differs from character 21 on: \"…k brown fox sleeps\" where most say \"…k brown fox jumps",
            "http://c:1 gave no text: connect: no",
        ] {
            assert!(compared.text.contains(part), "{part}: {}", compared.text);
        }
    }

    #[test]
    fn of_equals_the_first_counts_and_an_end_is_a_difference() {
        let compared = compare("p", &said(&[Ok("ab"), Ok("a"), Ok("a"), Ok("ab")]));
        assert_eq!((compared.alike, compared.differing), (2, 2));
        assert!(
            compared.text.contains("http://b:1 differs from character 2 on: \"a\" where most say \"ab\""),
            "{}",
            compared.text
        );
        assert_eq!(compare("p", &said(&[Ok("x"), Ok("x")])).differing, 0);
        let silent = compare("p", &said(&[Err("a"), Err("b")]));
        assert_eq!((silent.alike, silent.silent), (0, 2));
    }
}
