//! Every flag of `milepost route` in one table: the 98 of sglang-router 0.3.2, smg's that mean the same, and our own.
//!
//! Rule: the table is the only place that knows a flag's name, default, meaning and standing; parsing, `--help`, the warning,
//! the refusal and `docs/flags.md` are made from it. Adding a flag is one constant in its group's file, and one line in
//! `settings` that reads it. Deliberately not here: `clap` (`cli::route`).

mod absent;
mod access;
mod capture;
mod compare;
mod error;
mod flag;
mod fleet;
mod given;
mod notice;
mod observe;
mod page;
mod requests;
mod routing;
mod secrets;
mod settings;

pub use capture::about_spans;
pub use error::FlagError;
pub use flag::{Flag, Group, Origin, Standing, Takes, Value};
pub use given::Given;
pub use notice::without_effect;
pub use page::page;
pub use settings::{Endpoint, Settings};

/// The table, in the order of help: what works first.
pub const GROUPS: &[Group] = &[
    fleet::LISTENING,
    fleet::WORKERS,
    routing::ROUTING,
    requests::REQUESTS,
    requests::LIMITS,
    requests::RETRIES,
    requests::BREAKER,
    fleet::HEALTH,
    observe::OBSERVE,
    access::ACCESS,
    absent::FLEETS,
    absent::KUBERNETES,
    absent::TEXT,
    absent::STORAGE,
];

/// Every flag, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

/// The flag's line of help: its meaning, and for the policy its names.
pub fn about(flag: &Flag) -> String {
    if flag.name == routing::POLICY.name {
        let names: Vec<&str> = milepost_policies::POLICIES.iter().map(|spec| spec.name).collect();
        return format!("{}: {}, script:FILE, weighted:FILE", flag.about, names.join(", "));
    }
    match flag.value {
        Value::Word(words) => format!("{}: {}", flag.about, words.join(", ")),
        _ => flag.about.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_name_once_and_all_of_sglang_router() {
        let mut names: Vec<&str> =
            all().flat_map(|flag| std::iter::once(flag.name).chain(flag.aliases.iter().copied())).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name twice");
        assert_eq!(all().filter(|flag| flag.origin == Origin::SglangRouter).count(), 98);
    }

    #[test]
    fn every_default_is_a_value_that_its_flag_takes() {
        for flag in all().filter(|flag| flag.default.is_some()) {
            assert_eq!(flag.takes, Takes::One, "{}", flag.name);
        }
        assert_eq!(Given::default().check(), Ok(()));
    }
}
