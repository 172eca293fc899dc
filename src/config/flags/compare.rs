//! From flags to what compares policies on live traffic: `--split` and `--shadow-policy`.
//!
//! Rule: an error names the part of the list that is wrong. Deliberately not here: the drawing (`config::split`).

use milepost_policies::PolicyConfig;

use super::{FlagError, Given, routing};
use crate::config::split::Split;

/// Most policies asked after each decision: they share one thread.
const MAX_SHADOWS: usize = 16;

/// The arms, each a policy that there is.
pub(super) fn split(given: &Given, config: &PolicyConfig) -> Result<Option<Split>, FlagError> {
    let flag = &routing::SPLIT;
    let Some(text) = given.text(flag)? else { return Ok(None) };
    if given.has(&routing::POLICY) {
        let why = "the arms name the policies; leave --policy out".to_owned();
        return Err(FlagError::Pair { flag: flag.name, other: routing::POLICY.name, why });
    }
    let split = Split::parse(text).map_err(|e| FlagError::part(flag, &e.part, e.why))?;
    for arm in split.arms() {
        known(&arm.policy, config)
            .map_err(|why| FlagError::part(flag, &format!("{}={}", arm.policy, arm.weight), why))?;
    }
    Ok(Some(split))
}

/// Whether there is such a policy; only `--policy` takes one from a file.
fn known(name: &str, config: &PolicyConfig) -> Result<(), String> {
    match milepost_policies::build(name, config) {
        Ok(_) => Ok(()),
        Err(_) if name.contains(':') => Err("a policy from a file can be given to --policy alone".to_owned()),
        Err(unknown) => Err(unknown.to_string()),
    }
}

/// Policies that are asked after each decision, each once.
pub(super) fn shadow_policies(given: &Given, config: &PolicyConfig) -> Result<Vec<String>, FlagError> {
    let flag = &routing::SHADOW_POLICY;
    let Some(text) = given.text(flag)? else { return Ok(Vec::new()) };
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if names.iter().any(|known| known == name) {
            return Err(FlagError::part(flag, name, "named twice"));
        }
        known(name, config).map_err(|why| FlagError::part(flag, name, why))?;
        names.push(name.to_owned());
    }
    if names.len() > MAX_SHADOWS {
        return Err(FlagError::expected(
            flag,
            format!("at most {MAX_SHADOWS} policies"),
            &names.len().to_string(),
        ));
    }
    Ok(names)
}
