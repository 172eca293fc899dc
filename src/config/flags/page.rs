//! `docs/flags.md`, made from the table.

use std::fmt::Write;

use super::{Flag, GROUPS, Origin, Standing, Takes, Value, about, all};

const HEAD: &str = "# Flags of `milepost route`

Made from the table in `src/config/flags/`; a test holds them equal.

Every flag of sglang-router 0.3.2 is taken, with the defaults of its Python command line; some are smg's, some milepost's own
(said behind the meaning). A beginning that fits one flag alone will do (one that is unambiguous in sglang-router stays so
here), `--flag=value` too, and of a flag given twice the last one counts.

- **works**: does what it says.
- **no effect**: taken with its values; if one is given that is not the default, one warning at the start names all such flags.
- **refused**: with a value other than the default the router does not start and says why.
";

/// The page as markdown.
pub fn page() -> String {
    let count = |of: fn(&Standing) -> bool| {
        all().filter(|f| f.origin == Origin::SglangRouter && of(&f.standing)).count()
    };
    let mut page = HEAD.to_owned();
    let _ = writeln!(
        page,
        "\nOf sglang-router's {} flags {} work, {} have no effect and {} are refused.",
        count(|_| true),
        count(|s| matches!(s, Standing::Works)),
        count(|s| matches!(s, Standing::Ignored(_))),
        count(|s| matches!(s, Standing::Refused(_))),
    );
    for group in GROUPS {
        let _ = writeln!(
            page,
            "\n## {}\n\n| flag | default | value | meaning | standing |\n|---|---|---|---|---|",
            group.heading
        );
        for flag in group.flags {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                spelling(flag),
                flag.default.map_or(String::new(), |d| format!("`{d}`")),
                kind(flag),
                cell(&meaning(flag)),
                cell(&standing(flag)),
            );
        }
    }
    page
}

fn spelling(flag: &Flag) -> String {
    let values = match flag.takes {
        Takes::Switch => String::new(),
        Takes::One => format!(" {}", flag.value_name),
        Takes::ZeroOrMore => format!(" [{} ...]", flag.value_name),
        Takes::OneOrMore => format!(" {} [...]", flag.value_name),
        Takes::Repeated => format!(" {} (repeatable)", flag.value_name),
    };
    let own = format!("`--{}{values}`", flag.name);
    let aliases = flag.aliases.iter().map(|alias| format!("`--{alias}`"));
    cell(&std::iter::once(own).chain(aliases).collect::<Vec<_>>().join(" "))
}

/// What a value is, where its name and the meaning do not say it.
fn kind(flag: &Flag) -> String {
    match flag.value {
        Value::Integer(..) | Value::Number(..) => flag.value.to_string(),
        Value::Text | Value::Secret | Value::Path | Value::Word(_) => String::new(),
    }
}

fn meaning(flag: &Flag) -> String {
    let origin = match flag.origin {
        Origin::SglangRouter => "",
        Origin::Smg => " (smg's)",
        Origin::Milepost => " (milepost's)",
    };
    format!("{}{origin}", about(flag))
}

fn standing(flag: &Flag) -> String {
    match flag.standing {
        Standing::Works => "works".to_owned(),
        Standing::Ignored(why) => format!("no effect: {why}"),
        Standing::Refused(why) => format!("refused: {why}"),
    }
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
