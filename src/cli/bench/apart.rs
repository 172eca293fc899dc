//! Flags of a run that mean nothing to `--static-batch` and `--check-outputs`.
//!
//! Rule: each is refused with the reason, so that nobody believes that it changed a figure. What help hides is noted as
//! always. Deliberately not here: what the two do.

use clap::{Arg, Args, Command};

use super::BenchArgs;

/// What one of the two takes, and why not the rest.
pub(super) struct Apart {
    /// Its own flag.
    pub flag: &'static str,
    /// Flags that mean something to it, beside those of [`BOTH`].
    pub takes: &'static [&'static str],
    /// Reasons, by a flag's name or by the heading it stands under in help.
    pub because: &'static [(&'static str, &'static str)],
}

/// Flags that mean the same to both.
const BOTH: [&str; 14] = [
    "backend",
    "base-url",
    "host",
    "port",
    "config",
    "ca-cert-paths",
    "client-cert-path",
    "client-key-path",
    "header",
    "extra-request-body",
    "request-timeout-secs",
    "idle-timeout-secs",
    "output-len",
    "disable-tqdm",
];

impl Apart {
    /// Refuses the first flag typed that means nothing.
    pub(super) fn check(&self, arguments: &[String]) -> Result<(), String> {
        let command = BenchArgs::augment_args(Command::new("bench"));
        for typed in arguments.iter().filter_map(|argument| argument.strip_prefix("--")) {
            let name = typed.split('=').next().unwrap_or_default();
            let Some((long, arg)) = named(&command, name) else { continue };
            let taken = long == self.flag || BOTH.contains(&long) || self.takes.contains(&long);
            if !taken && !arg.is_hide_set() {
                return Err(format!("--{long} means nothing to --{}: {}", self.flag, self.why(long, arg)));
            }
        }
        Ok(())
    }

    fn why(&self, long: &str, arg: &Arg) -> &'static str {
        let under = arg.get_help_heading().unwrap_or_default();
        let of = |key: &str| self.because.iter().find(|(name, _)| *name == key).map(|(_, why)| *why);
        of(long).or_else(|| of(under)).unwrap_or("it is of a run with arrivals")
    }
}

/// Whether a flag was typed, by its whole name or the beginning of it.
pub(super) fn is_given(arguments: &[String], long: &str) -> bool {
    let command = BenchArgs::augment_args(Command::new("bench"));
    let mut typed = arguments.iter().filter_map(|argument| argument.strip_prefix("--"));
    typed.any(|typed| {
        let name = typed.split('=').next().unwrap_or_default();
        named(&command, name).is_some_and(|(found, _)| found == long)
    })
}

/// The flag of that name, or the one that begins so: clap has seen to it that there is one.
fn named<'a>(command: &'a Command, name: &str) -> Option<(&'a str, &'a Arg)> {
    let longs = || command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    let aliased = |arg: &Arg| arg.get_all_aliases().is_some_and(|all| all.contains(&name));
    longs()
        .find(|(long, arg)| *long == name || aliased(arg))
        .or_else(|| longs().find(|(long, _)| !name.is_empty() && long.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Apart = Apart {
        flag: "static-batch",
        takes: &["seed"],
        because: &[("Arrivals", "one after the other"), ("disable-stream", "the stream tells")],
    };

    fn checked(line: &str) -> Result<(), String> {
        APART.check(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_reason() {
        for (line, told) in [
            (
                "--static-batch --request-rate 3",
                "--request-rate means nothing to --static-batch: one after the other",
            ),
            (
                "--static-batch --request-r=3",
                "--request-rate means nothing to --static-batch: one after the other",
            ),
            ("--disable-st", "--disable-stream means nothing to --static-batch: the stream tells"),
            (
                "--num-prompts 3",
                "--num-prompts means nothing to --static-batch: it is of a run with arrivals",
            ),
        ] {
            assert_eq!(checked(line).unwrap_err(), told);
        }
        checked("--static-batch --seed 3 --base-url http://a:1 --header a=--b --tokenizer x --disable-tqdm")
            .unwrap();
    }

    #[test]
    fn a_flag_is_given_whatever_way_it_is_typed() {
        for (line, given) in [
            ("--static-batch --seed 3", true),
            ("--see=3", true),
            ("--static-batch", false),
            ("--header seed=3", false),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(is_given(&arguments, "seed"), given, "{line}");
        }
    }

    #[test]
    fn every_name_in_the_tables_is_a_flag_or_a_heading() {
        let command = BenchArgs::augment_args(Command::new("bench"));
        let is_flag = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
        let is_heading = |name: &str| command.get_arguments().any(|arg| arg.get_help_heading() == Some(name));
        for apart in [&super::super::static_batch::APART, &super::super::check_outputs::APART] {
            for name in BOTH.iter().chain(apart.takes).chain([&apart.flag]) {
                assert!(is_flag(name), "{name}");
            }
            for (name, _) in apart.because {
                assert!(is_flag(name) || is_heading(name), "{name}");
            }
        }
    }
}
