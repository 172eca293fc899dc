//! The table of flags as a `clap` command, and what was typed as [`Given`].
//!
//! Rule: nothing here knows a flag by name. As argparse does: an unambiguous beginning will do, and of a flag given twice the
//! last one counts. Deliberately not here: the reading of values, which is the table's (`config::flags`).

use std::ffi::OsString;

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::flags::{self, Flag, Given, Origin, Standing, Takes, Value};

const EXAMPLE: &str = "Try: milepost route --worker-urls http://gpu0:8000 http://gpu1:8000 --policy cache_aware --trace-log trace.jsonl";

/// Arguments of `milepost route`.
#[derive(Clone, Debug, Default)]
pub struct RouteArgs {
    /// What was typed.
    pub given: Given,
}

impl Args for RouteArgs {
    fn augment_args(command: Command) -> Command {
        let command = command.infer_long_args(true).args_override_self(true).after_help(after_help());
        let headed = flags::GROUPS.iter().flat_map(|g| g.flags.iter().map(|flag| (g.heading, flag)));
        headed.fold(command, |command, (heading, flag)| command.arg(arg(flag).help_heading(heading)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RouteArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Given::default();
        for flag in flags::all().filter(|flag| matches.value_source(flag.name) == Some(TYPED)) {
            let values: Vec<OsString> = match flag.takes {
                Takes::Switch => Vec::new(),
                _ => matches.get_many(flag.name).into_iter().flatten().cloned().collect(),
            };
            given.set(flag, values);
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

const TYPED: clap::parser::ValueSource = clap::parser::ValueSource::CommandLine;

fn arg(flag: &'static Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .visible_aliases(flag.aliases.iter().copied())
        .aliases(beginnings(flag))
        .help(help(flag))
        .hide(flag.standing != Standing::Works)
        .allow_negative_numbers(matches!(flag.value, Value::Integer(..) | Value::Number(..)));
    let (action, values) = match flag.takes {
        Takes::Switch => return arg.action(ArgAction::SetTrue),
        Takes::One => (ArgAction::Set, 1..=1),
        Takes::ZeroOrMore => (ArgAction::Set, 0..=usize::MAX),
        Takes::OneOrMore => (ArgAction::Set, 1..=usize::MAX),
        Takes::Repeated => (ArgAction::Append, 1..=usize::MAX),
    };
    arg.action(action).num_args(values).value_name(flag.value_name).value_parser(OsStringValueParser::new())
}

/// Beginnings that fit this flag alone among sglang-router's, and also fit a name that is new here: they stay its own.
fn beginnings(flag: &'static Flag) -> Vec<&'static str> {
    if flag.origin != Origin::SglangRouter {
        return Vec::new();
    }
    let theirs = |other: &&Flag| other.origin == Origin::SglangRouter;
    let alone_before = |text: &str| {
        !flags::all().filter(theirs).any(|other| other.name != flag.name && other.name.starts_with(text))
    };
    let own = flags::all().filter(|other| !theirs(other)).map(|other| other.name);
    let new = own.chain(flags::all().flat_map(|other| other.aliases.iter().copied()));
    let shared = |name: &str| flag.name.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    // What it has in common with any new name is no longer than this.
    let longest = new.filter(|name| !flag.aliases.contains(name)).map(shared).max().unwrap_or(0);
    let ends = 1..=longest.min(flag.name.len() - 1);
    ends.map(|end| &flag.name[..end]).filter(|text| alone_before(text)).collect()
}

fn help(flag: &Flag) -> String {
    let about = flags::about(flag);
    match flag.default {
        Some(default) => format!("{about} [default: {default}]"),
        None => about,
    }
}

/// What help says about the flags that it does not list.
fn after_help() -> String {
    let names = |of: fn(&Standing) -> bool| {
        let names: Vec<String> =
            flags::all().filter(|f| of(&f.standing)).map(|f| format!("--{}", f.name)).collect();
        names.join(" ")
    };
    format!(
        "Taken, as sglang-router has them, but without effect (a warning says why, and so does docs/flags.md):\n  {}\n\n\
         Refused, with the reason and the way out:\n  {}\n\n\
         A beginning that fits one flag alone will do, and of a flag given twice the last one counts.\n\n{EXAMPLE}",
        names(|s| matches!(s, Standing::Ignored(_))),
        names(|s| matches!(s, Standing::Refused(_))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Given, Error> {
        thread_local! {
            static COMMAND: Command = RouteArgs::augment_args(Command::new("route"));
        }
        let matches =
            COMMAND.with(Clone::clone).try_get_matches_from(std::iter::once(&"route").chain(args))?;
        RouteArgs::from_arg_matches(&matches).map(|args| args.given)
    }

    fn values(args: &[&str], name: &str) -> Vec<String> {
        let flag = flags::all().find(|flag| flag.name == name).expect("a flag");
        let given = parse(args).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        assert!(given.has(flag), "{name} in {args:?}");
        given.values(flag).iter().map(|value| value.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_beginning_that_sglang_router_takes_means_the_same_flag() {
        let theirs: Vec<&Flag> = flags::all().filter(|f| f.origin == Origin::SglangRouter).collect();
        let mut tried = 0;
        for flag in &theirs {
            for end in 1..=flag.name.len() {
                let text = &flag.name[..end];
                let fits = |name: &str| name.starts_with(text);
                let alone = theirs.iter().filter(|other| fits(other.name)).count() == 1 && !fits("help");
                if alone || text == flag.name {
                    let typed = format!("--{text}");
                    let value = ["1"];
                    let of_value = if flag.takes == Takes::Switch { &value[..0] } else { &value[..] };
                    let args: Vec<&str> =
                        std::iter::once(typed.as_str()).chain(of_value.iter().copied()).collect();
                    assert_eq!(values(&args, flag.name), of_value, "{typed}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 800, "{tried}");
        assert!(parse(&["--worker", "1"]).is_err(), "it fits several");
        assert!(parse(&["--no-such-flag"]).is_err());
    }

    #[test]
    fn values_are_taken_as_argparse_takes_them() {
        assert_eq!(values(&["--worker-urls"], "worker-urls"), [""; 0]);
        assert_eq!(values(&["--worker-urls", "a", "b", "--dp-aware"], "worker-urls"), ["a", "b"]);
        assert_eq!(values(&["--worker-urls", "a", "--worker-urls", "b"], "worker-urls"), ["b"]);
        assert_eq!(values(&["--port=1", "--port", "2"], "port"), ["2"]);
        assert_eq!(values(&["--max-concurrent-requests", "-1"], "max-concurrent-requests"), ["-1"]);
        assert_eq!(values(&["--prefill", "a", "1", "--prefill", "b"], "prefill"), ["a", "1", "b"]);
        assert_eq!(values(&["--selector", "a=b", "c=d"], "selector"), ["a=b", "c=d"]);
        assert_eq!(values(&["--dp-aware", "--dp-aware"], "dp-aware"), [""; 0]);
        for bad in
            [&["--worker-urls=a", "b"][..], &["--selector"], &["--port"], &["--dp-aware=1"], &["http://a"]]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_spellings_are_the_same_flag() {
        for flag in flags::all() {
            for alias in flag.aliases {
                assert_eq!(values(&[&format!("--{alias}"), "0.5"], flag.name), ["0.5"]);
            }
        }
        assert_eq!(values(&["--cache-match-threshold", "0.5"], "cache-threshold"), ["0.5"]);
    }
}
