//! The command line of a run as it may be written down.
//!
//! Rule: no value of a header and no password of an address is written, as they may be secrets; everything else stays as it was
//! typed. Deliberately not here: what the flags mean.

/// Stands for a value that was left out.
pub(super) const MASK: &str = "***";

/// The arguments, with what may be secret masked.
pub(super) fn masked(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut in_headers = false;
    let mut out = Vec::new();
    for argument in arguments {
        if let Some(flag) = argument.strip_prefix("--") {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
            in_headers = is_header(name);
            out.push(match value {
                Some(value) if in_headers => format!("--{name}={}", mask_pair(value)),
                _ => mask_address(&argument),
            });
        } else if in_headers {
            out.push(mask_pair(&argument));
        } else {
            out.push(mask_address(&argument));
        }
    }
    out
}

/// `--header`, or an unambiguous beginning of it.
fn is_header(name: &str) -> bool {
    name.len() >= 3 && "header".starts_with(name)
}

fn mask_pair(pair: &str) -> String {
    pair.split_once('=').map_or_else(|| MASK.to_owned(), |(name, _)| format!("{name}={MASK}"))
}

/// `http://user:password@host` without the user and the password.
fn mask_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// Flags of a series that have a value, and that have none.
const SERIES: [&str; 7] =
    ["sweep", "sweep-mode", "repeats", "slo", "find-rate-probes", "find-rate-precision", "find-rate-time"];
const SERIES_BARE: &str = "find-rate";

/// The arguments of one run of a series: without the series, with what is its own in the end, where it counts.
pub(super) fn of_one_run(arguments: &[String], own: &[(&str, String)]) -> Vec<String> {
    let mut out = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let name = argument.strip_prefix("--").unwrap_or_default();
        let (name, with_value) = name.split_once('=').map_or((name, false), |(name, _)| (name, true));
        // As clap does: a flag, or a beginning of one that begins no other.
        let is =
            |flag: &str| name == flag || (name.len() >= 2 && name != SERIES_BARE && flag.starts_with(name));
        if name == SERIES_BARE {
            continue;
        }
        if !SERIES.iter().any(|flag| is(flag)) {
            out.push(argument.clone());
        } else if !with_value {
            arguments.next();
        }
    }
    out.extend(own.iter().map(|(flag, value)| format!("--{flag}={value}")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        masked(line.split(' ').map(str::to_owned)).join(" ")
    }

    #[test]
    fn a_run_of_a_series_stands_alone() {
        let typed = [
            "--sweep",
            "request-rate=1,2",
            "--sweep=max-concurrency=1,2",
            "--sweep-mode",
            "one-at-a-time",
            "--seed",
            "3",
            "--repeats=4",
            "--find-rate",
            "--slo",
            "p99 ttft<5",
            "--rep",
            "2",
        ];
        let typed = typed.map(str::to_owned);
        let one = of_one_run(&typed, &[("request-rate", "2".to_owned()), ("seed", "4".to_owned())]);
        assert_eq!(one, ["--seed", "3", "--request-rate=2", "--seed=4"]);
    }

    #[test]
    fn keys_are_masked_and_the_rest_stays() {
        assert_eq!(of("--header A=b C=d --seed 1"), "--header A=*** C=*** --seed 1");
        assert_eq!(of("--header=A=b=c --model A=b"), "--header=A=*** --model A=b");
        assert_eq!(of("--head x"), "--head ***");
        assert_eq!(of("--host h"), "--host h");
        assert_eq!(of("--base-url http://u:p@gpu:1/v"), "--base-url http://***@gpu:1/v");
        assert_eq!(of("--base-url=http://u@gpu:1"), "--base-url=http://***@gpu:1");
        assert_eq!(of("--base-url http://gpu:1/a@b"), "--base-url http://gpu:1/a@b");
    }
}
