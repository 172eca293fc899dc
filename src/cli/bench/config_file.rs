//! `--config FILE`: flags from a file, either TOML with the flags' names or the `run.json` or `manifest.json` of an earlier run.
//!
//! Rule: the file's flags come first, so that what is typed wins; a key that is no flag is refused as a flag would be. Secrets are
//! not in a run's files, and what is missing for that reason is named. Deliberately not here: what the flags mean.

use std::fs;

use serde::Deserialize;
use toml::{Table, Value};

use super::arguments::MASK;

/// Largest file read: a run's JSON holds every request.
const MAX_BYTES: u64 = 8 << 30;

/// Flags that take several values at a time.
const LISTS: [&str; 7] = [
    "--ca-cert-paths",
    "--batch-size",
    "--input-len",
    "--output-len",
    "--worker-urls",
    "--prompt",
    "--goodput",
];

/// What is read of a run's file.
#[derive(Deserialize)]
struct Run {
    arguments: Vec<String>,
}

/// The arguments of `milepost bench` with the file's in place of `--config`, and lines for the user.
///
/// # Errors
/// The file cannot be read, is neither, or holds what cannot be a flag.
pub fn expand(typed: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut paths, mut rest) = (Vec::new(), Vec::new());
    let mut arguments = typed.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = argument.split_once('=').map_or((argument.as_str(), None), |(n, v)| (n, Some(v)));
        if !is_config(name) {
            rest.push(argument.clone());
            continue;
        }
        let next = value.map(str::to_owned).or_else(|| arguments.next().cloned());
        paths.push(next.ok_or("--config: expected a file")?);
    }
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    for path in paths {
        let (flags, told) = read(&path).map_err(|e| format!("--config {path}: {e}"))?;
        out.extend(flags);
        notes.extend(told);
    }
    out.extend(rest);
    Ok((out, notes))
}

/// `--config`, or an unambiguous beginning of it.
fn is_config(name: &str) -> bool {
    name.strip_prefix("--").is_some_and(|name| name.len() >= 2 && "config".starts_with(name))
}

fn read(path: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let bytes = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if bytes > MAX_BYTES {
        return Err(format!(
            "it has {bytes} bytes, at most {MAX_BYTES} are read; its manifest.json does as well"
        ));
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    if text.trim_start().starts_with('{') {
        let run: Run =
            serde_json::from_str(&text).map_err(|e| format!("no run.json of this milepost: {e}"))?;
        return unmasked(run.arguments);
    }
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
    let flags = table.iter().map(|(key, value)| flags(key, value)).collect::<Result<Vec<_>, _>>()?;
    Ok((flags.concat(), Vec::new()))
}

/// The flags of one key.
fn flags(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let flag = format!("--{}", key.replace('_', "-"));
    if is_config(&flag) {
        return Err(format!("{key}: a file names no other"));
    }
    let plain = |value: &Value| match value {
        Value::String(text) => Ok(format!("{flag}={text}")),
        Value::Integer(number) => Ok(format!("{flag}={number}")),
        Value::Float(number) => Ok(format!("{flag}={number}")),
        _ => Err(format!("{key}: expected a text, a number, true, false or a list of texts")),
    };
    match value {
        Value::Boolean(true) => Ok(vec![flag]),
        Value::Boolean(false) => Ok(Vec::new()),
        // The flags that may be given several times.
        Value::Array(values) if flag == "--header" || flag == "--sweep" => values.iter().map(plain).collect(),
        Value::Array(values) if LISTS.contains(&flag.as_str()) => {
            let value = |value| plain(value).map(|text| text[flag.len() + 1..].to_owned());
            std::iter::once(Ok(flag.clone())).chain(values.iter().map(value)).collect()
        }
        other => Ok(vec![plain(other)?]),
    }
}

/// A run's arguments without the values that were masked.
fn unmasked(arguments: Vec<String>) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut out, mut notes) = (Vec::<String>::new(), Vec::new());
    for argument in arguments {
        if argument.contains(&format!("://{MASK}@")) {
            return Err("the address of that run held a password, which was not written down: give its flags yourself".to_owned());
        }
        if let Some(pair) = argument.strip_suffix(&format!("={MASK}")) {
            notes.push(format!(
                "note: the value of header {} was not written down; give --header again",
                pair.trim_start_matches("--header=")
            ));
        } else if argument == MASK {
            notes.push("note: a header was not written down; give --header again".to_owned());
        } else {
            out.push(argument);
        }
    }
    // A flag whose values are all gone.
    let bare = |i: usize, flag: &String| {
        let alone = out.get(i + 1).is_none_or(|next: &String| next.starts_with("--"));
        flag.len() >= 5 && "--header".starts_with(flag.as_str()) && alone
    };
    let kept =
        out.iter().enumerate().filter(|(i, flag)| !bare(*i, flag)).map(|(_, flag)| flag.clone()).collect();
    Ok((kept, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(name: &str, text: &str, typed: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let path = std::env::temp_dir().join(format!("milepost-config-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        let typed = typed.replace("FILE", path.to_str().unwrap());
        let out = expand(&typed.split(' ').map(str::to_owned).collect::<Vec<_>>());
        fs::remove_file(&path).unwrap();
        out
    }

    #[test]
    fn toml_has_the_flags_names_and_what_is_typed_comes_last() {
        let text = "request-rate = 20\nmodel = \"a b\"\nflush_cache = true\ndisable-tqdm = false\ntemperature = 0.5\n\
                    header = [\"a=b\", \"c=d\"]\n";
        let (flags, notes) = expanded("a.toml", text, "--seed 3 --config FILE --request-rate 5").unwrap();
        let mut from_file = flags[..6].to_vec();
        from_file.sort();
        assert_eq!(
            from_file,
            [
                "--flush-cache",
                "--header=a=b",
                "--header=c=d",
                "--model=a b",
                "--request-rate=20",
                "--temperature=0.5"
            ]
        );
        assert_eq!(flags[6..], ["--seed", "3", "--request-rate", "5"]);
        assert!(notes.is_empty());
        let (flags, _) = expanded("lists.toml", "batch_size = [4, 8]\n", "--config FILE --seed 3").unwrap();
        assert_eq!(flags, ["--batch-size", "4", "8", "--seed", "3"]);
    }

    #[test]
    fn a_run_is_taken_as_it_was_typed_save_its_secrets() {
        let text = r#"{"arguments":["--seed","3","--header","k=***","--header","x=1","j=***","--header=y=***"],"metrics":{}}"#;
        let (flags, notes) = expanded("run.json", text, "--conf=FILE").unwrap();
        assert_eq!(flags, ["--seed", "3", "--header", "x=1"]);
        assert_eq!(notes.len(), 3);
        assert!(notes[0].contains("header k "), "{notes:?}");
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (name, text, word) in [
            ("b.toml", "seed = ", "line 1"),
            ("c.toml", "[seed]\na = 1", "seed: expected"),
            ("d.toml", "seed = [1]", "seed: expected"),
            ("e.toml", "config = \"x\"", "no other"),
            ("f.json", "{}", "arguments"),
            ("g.json", r#"{"arguments":["--base-url=http://***@h:1"]}"#, "password"),
        ] {
            let told = expanded(name, text, "--config FILE").unwrap_err();
            assert!(told.contains(word) && told.contains(name), "{told}");
        }
        assert!(expand(&["--config".to_owned()]).is_err());
        assert!(
            expand(&["--config".to_owned(), "/nonexistent".to_owned()]).unwrap_err().contains("/nonexistent")
        );
    }
}
