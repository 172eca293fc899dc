//! The report for people.
//!
//! Rule: a line for each question, the same for every server, and what is missing last, where it is looked for; a number has its
//! unit. Deliberately not here: what follows from what was found (`remedy`); colours.

use std::fmt::Write;

use super::report::{Column, Examined, Heard, Idle, Kind, Overall, Report, Role, StampFound, Stop, Verdict};

/// Width of the names on the left.
const NAME: usize = 12;

impl Report {
    /// The whole report.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for target in &self.targets {
            one(&mut out, target);
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    /// One line of it: how many are how.
    pub fn summary(&self) -> String {
        let all = self.targets.len();
        let counted = [
            (Verdict::Well, "well"),
            (Verdict::Lacking, "usable with something missing"),
            (Verdict::Unusable, "unusable"),
        ]
        .into_iter()
        .map(|(verdict, word)| (self.count(verdict), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"));
        let counted: Vec<String> = counted.collect();
        format!("{all} examined: {}", counted.join(", "))
    }
}

impl Overall {
    /// In a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "nothing is missing",
            Self::Lacking => "all can be used, something is missing",
            Self::SomeUnusable => "some cannot be used",
            Self::Unusable => "none can be used",
        }
    }
}

fn one(out: &mut String, found: &Examined) {
    let verdict = match found.verdict {
        Verdict::Well => "WELL",
        Verdict::Lacking => "USABLE, SOMETHING IS MISSING",
        Verdict::Unusable => "UNUSABLE",
    };
    let role = if found.role == Role::Router { " (router)" } else { "" };
    let _ = writeln!(out, "{}{role}: {verdict}", found.url);
    if matches!(found.what, Kind::Sglang | Kind::Router) {
        line(out, "what", &what(found));
        engine(out, found);
        line(out, "host", host(found));
        answers(out, found);
        stamps(out, found);
        columns(out, found);
        clock(out, found);
        load(out, found);
        idle(out, found);
        stop(out, found);
    }
    for finding in &found.findings {
        line(out, finding.level.as_str(), &finding.what);
        if let Some(remedy) = &finding.remedy {
            line(out, "", &format!("-> {remedy}"));
        }
    }
    out.push('\n');
}

fn line(out: &mut String, name: &str, text: &str) {
    let line = format!("  {name:<NAME$} {text}");
    let _ = writeln!(out, "{}", line.trim_end());
}

fn what(found: &Examined) -> String {
    let identity = &found.identity;
    let engine = match &identity.version {
        Some(version) => format!("SGLang {version}"),
        None => "SGLang of unknown version".to_owned(),
    };
    let mut text = match identity.router {
        Some("unknown") => "a router of unknown kind".to_owned(),
        Some(name) => format!("a router, {name}"),
        None => engine,
    };
    if identity.front_end.as_deref() == Some("rust") {
        text += ", Rust front end";
    }
    if let Some(model) = &identity.model {
        let _ = write!(text, ", model {model}");
    }
    if identity.simulated == Some(true) {
        text += ", SIMULATED";
    }
    text
}

fn engine(out: &mut String, found: &Examined) {
    if found.what != Kind::Sglang {
        return;
    }
    let flags: Vec<String> = found
        .identity
        .engine
        .iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        })
        .collect();
    let flags = if flags.is_empty() { vec!["it does not tell its flags".to_owned()] } else { flags };
    for (at, some) in flags.chunks(4).enumerate() {
        line(out, if at == 0 { "engine" } else { "" }, &some.join(", "));
    }
}

fn host(found: &Examined) -> &'static str {
    match found.same_host {
        Some(true) => "this one, by the addresses of the connection",
        Some(false) => "another one",
        None => "unknown",
    }
}

fn answers(out: &mut String, found: &Examined) {
    let both = [("streamed", &found.streamed), ("plain", &found.plain)];
    for (at, (name, heard)) in both.into_iter().enumerate() {
        let Some(heard) = heard else { continue };
        line(out, if at == 0 { "answers" } else { "" }, &format!("{name}: {}", answer(heard)));
    }
}

fn answer(heard: &Heard) -> String {
    let mut text = heard.status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
    if let Some(tokens) = heard.completion_tokens {
        let _ = write!(text, ", {tokens} tokens");
    }
    if heard.events > 0 {
        let _ = write!(text, " in {} events", heard.events);
    }
    if let Some(ns) = heard.first_token_ns {
        let _ = write!(text, ", first token after {}", ms(ns));
    }
    if let Some(ns) = heard.last_byte_ns {
        let _ = write!(text, ", last byte after {}", ms(ns));
    }
    if let (Some(prompt), Some(cached)) = (heard.prompt_tokens, heard.cached_tokens) {
        let _ = write!(text, "; {cached} of {prompt} prompt tokens from cache");
    }
    if let Some(url) = &heard.worker_url {
        let _ = write!(text, "; by {url}");
    }
    text
}

/// One line a stamp: its clock, and in which of the two answers it was.
fn stamps(out: &mut String, found: &Examined) {
    let of = |heard: &Option<Heard>| heard.as_ref().map_or(Vec::new(), |heard| heard.stamps.clone());
    let (streamed, plain) = (of(&found.streamed), of(&found.plain));
    let mut all: Vec<StampFound> = streamed.clone();
    all.extend(plain.iter().filter(|stamp| !streamed.iter().any(|other| other.name == stamp.name)));
    if all.is_empty() {
        line(out, "stamps", "none");
    }
    for (at, stamp) in all.iter().enumerate() {
        let has = |those: &[StampFound]| those.iter().any(|other| other.name == stamp.name);
        let both = match (has(&streamed), has(&plain)) {
            (true, true) => "streamed and plain",
            (true, false) => "streamed alone",
            _ => "plain alone",
        };
        let text = format!("{:<29} {:<10} {both}", stamp.name, stamp.clock.as_str());
        line(out, if at == 0 { "stamps" } else { "" }, &text);
    }
}

/// One line a column of the trace's CSV: what it is made of, and where it lies.
fn columns(out: &mut String, found: &Examined) {
    let Some(streamed) = &found.streamed else { return };
    for (at, column) in streamed.columns.iter().enumerate() {
        let plain = found.plain.iter().flat_map(|heard| &heard.columns).find(|c| c.name == column.name);
        let text = format!("{:<29} {}", column.name, cells(column, plain));
        line(out, if at == 0 { "columns" } else { "" }, &text);
    }
    let bounds =
        [&found.streamed, &found.plain].into_iter().flatten().filter_map(|heard| heard.clock_bound_ns);
    if let Some(bound) = bounds.max() {
        line(out, "", &format!("(after the request was sent; moments give or take {})", ms(bound)));
    }
}

fn cells(streamed: &Column, plain: Option<&Column>) -> String {
    let cell = |column: &Column| match (column.at_ns, column.missing) {
        (Some(ns), _) => signed_ms(ns),
        (None, Some(why)) => why.to_owned(),
        (None, None) => "empty".to_owned(),
    };
    let made_of = streamed.made_of.or(plain.and_then(|column| column.made_of));
    let made_of = made_of.map_or(String::new(), |made_of| format!("{made_of}: "));
    match plain {
        Some(plain) if plain.missing != streamed.missing || plain.at_ns.is_some() => {
            format!("{made_of}streamed {}, plain {}", cell(streamed), cell(plain))
        }
        _ => format!("{made_of}{}", cell(streamed)),
    }
}

fn clock(out: &mut String, found: &Examined) {
    if let Some(wall) = found.wall_clock {
        let (ahead, bound) = (signed_ms(wall.ahead_ns), ms(wall.bound_ns));
        line(out, "wall clock", &format!("{ahead} against this host's, give or take {bound}"));
    }
}

fn load(out: &mut String, found: &Examined) {
    let Some(load) = &found.load else { return };
    let text = match load.endpoint {
        Some(endpoint) => {
            let number = |n: Option<u32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
            format!("GET {endpoint}: {} running, {} waiting", number(load.running), number(load.waiting))
        }
        None => "told nowhere".to_owned(),
    };
    line(out, "load", &text);
}

fn idle(out: &mut String, found: &Examined) {
    let Some(idle) = found.idle else { return };
    let text = match idle {
        Idle::ClosedAfterNs(ns) => format!("an idle connection is closed after {:.1} s", ns as f64 / 1e9),
        Idle::OpenAfterNs(ns) => format!("an idle connection is still open after {:.1} s", ns as f64 / 1e9),
        Idle::NotKept => "no connection is kept after its answer".to_owned(),
    };
    line(out, "keep-alive", &text);
}

fn stop(out: &mut String, found: &Examined) {
    let Some(stop) = &found.stop else { return };
    let text = match stop {
        Stop::Ends { after_ns, seen_at } => {
            format!(
                "a client that leaves ends its request, within {:.1} s by {seen_at}",
                *after_ns as f64 / 1e9
            )
        }
        Stop::RunsOn { for_ns, seen_at } => {
            format!(
                "a client that leaves does NOT end its request: {:.1} s later it ran, by {seen_at}",
                *for_ns as f64 / 1e9
            )
        }
        Stop::Untold { .. } => "cannot be told".to_owned(),
    };
    line(out, "stop", &text);
}

fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

fn signed_ms(ns: i64) -> String {
    format!("{:+.3} ms", ns as f64 / 1e6)
}
