//! What is said about flags that have no effect, and which ones stop the start.
//!
//! Rule: a flag counts only with a value other than its default, and flags that share a reason share its words: one line is to
//! be read at night.

use std::fmt::{self, Write};

use super::absent::KUBERNETES;
use super::flag::{Flag, Standing};
use super::{FlagError, Given, all};

/// One line about all flags given without effect; `None` if there is none.
pub fn without_effect(given: &Given) -> Option<String> {
    let flags = said(given, |standing| match standing {
        Standing::Ignored(why) => Some(why),
        _ => None,
    });
    if flags.is_empty() {
        return None;
    }
    let mut line = match flags.len() {
        1 => "1 flag has no effect: ".to_owned(),
        n => format!("{n} flags have no effect: "),
    };
    let _ = write_reasons(&mut line, &flags);
    Some(line)
}

/// An error that names every refused flag that was given.
pub(super) fn refusal(given: &Given) -> Result<(), FlagError> {
    let flags = said(given, |standing| match standing {
        Standing::Refused(why) => Some(why),
        _ => None,
    });
    if flags.is_empty() { Ok(()) } else { Err(FlagError::Refused(flags)) }
}

fn said(
    given: &Given,
    reason: impl Fn(Standing) -> Option<&'static str>,
) -> Vec<(&'static str, &'static str)> {
    let flags = all().filter(|flag: &&Flag| given.differs(flag));
    let mut said: Vec<_> = flags.filter_map(|flag| Some((flag.name, reason(flag.standing)?))).collect();
    // First what leaves a router without workers: that is what somebody is woken for.
    said.sort_by_key(|(name, _)| !KUBERNETES.flags.iter().any(|flag| flag.name == *name));
    said
}

/// `--a, --b (why); --c (why)`, with equal reasons once, in the order of their first flag.
pub(super) fn write_reasons(to: &mut impl Write, flags: &[(&'static str, &'static str)]) -> fmt::Result {
    let mut reasons: Vec<&str> = Vec::new();
    for &(_, why) in flags {
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }
    for (i, why) in reasons.iter().enumerate() {
        to.write_str(if i == 0 { "" } else { "; " })?;
        for (j, (name, _)) in flags.iter().filter(|(_, w)| w == why).enumerate() {
            write!(to, "{}--{name}", if j == 0 { "" } else { ", " })?;
        }
        write!(to, " ({why})")?;
    }
    Ok(())
}
