//! The schema of the trace, printed from the doc comments of the types that are written.
//!
//! Rule: one source; the text a user reads is the comment beside the field. The parser reads the form in which those files
//! are written (one field a line, `///` above it) and nothing more. Deliberately not here: JSON Schema, validation.

use std::fmt::Write;

/// Version of the trace's schema. Raised when the meaning of a field changes; a new optional field does not raise it.
pub const SCHEMA: u32 = 1;

/// The files whose types are written to a trace.
const SOURCES: [&str; 8] = [
    include_str!("record.rs"),
    include_str!("header.rs"),
    include_str!("decision.rs"),
    include_str!("journal/mod.rs"),
    include_str!("../wire/mod.rs"),
    include_str!("../wire/answer.rs"),
    include_str!("../wire/meta_info.rs"),
    include_str!("../clock.rs"),
];
const WIDTH: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) name: String,
    doc: String,
    pub(super) is_enum: bool,
    pub(super) members: Vec<Member>,
}

#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) rust_type: String,
    pub(super) doc: String,
    pub(super) flatten: bool,
}

/// All types that are written to a trace.
pub(super) fn items() -> Vec<Item> {
    SOURCES.iter().flat_map(|source| parse(source)).collect()
}

/// The schema as text: each kind of record, then the objects and words inside them.
pub fn text() -> String {
    let items = items();
    let mut out = format!(
        "milepost trace, schema {SCHEMA}: one JSON object a line, told apart by \"kind\".\nA type with ? may be absent, never null; [..] is a list.\n"
    );
    let mut printer = Printer { items: &items, pending: Vec::new(), printed: Vec::new() };
    for kind in printer.find("Record").map(|record| &record.members[..]).unwrap_or_default() {
        let _ = write!(out, "\nkind \"{}\": {}\n", snake(&kind.name), kind.doc);
        printer.members(&mut out, inner(&kind.rust_type));
    }
    while !printer.pending.is_empty() {
        let name = printer.pending.remove(0);
        if !printer.printed.contains(&name) {
            printer.item(&mut out, &name);
            printer.printed.push(name);
        }
    }
    out
}

struct Printer<'a> {
    items: &'a [Item],
    pending: Vec<String>,
    printed: Vec<String>,
}

impl<'a> Printer<'a> {
    fn find(&self, name: &str) -> Option<&'a Item> {
        self.items.iter().find(|item| item.name == name)
    }

    fn item(&mut self, out: &mut String, name: &str) {
        let Some(item) = self.find(name) else { return };
        let _ = write!(out, "\n{}: {}\n", item.name, item.doc);
        if item.is_enum {
            for word in &item.members {
                row(out, &format!("\"{}\"", snake(&word.name)), "", &word.doc);
            }
        } else {
            self.members(out, name);
        }
    }

    fn members(&mut self, out: &mut String, type_name: &str) {
        let Some(item) = self.find(type_name) else {
            return;
        };
        for field in &item.members {
            if field.flatten {
                self.members(out, inner(&field.rust_type));
                continue;
            }
            let named = inner(&field.rust_type);
            if self.find(named).is_some() {
                self.pending.push(named.to_owned());
            }
            // A word that is the name of a member.
            let name = if item.is_enum { snake(&field.name) } else { field.name.clone() };
            row(out, &name, &json_type(&field.rust_type), &field.doc);
        }
    }
}

/// The type without `Option`, `Late`, `Vec` and `Box`.
pub(super) fn inner(rust_type: &str) -> &str {
    let mut name = rust_type;
    while let Some(rest) = ["Option<", "Late<", "Vec<", "Box<"].iter().find_map(|p| name.strip_prefix(p)) {
        name = rest.strip_suffix('>').unwrap_or(rest);
    }
    name
}

fn json_type(rust_type: &str) -> String {
    let perhaps = ["Option<", "Late<"].iter().find_map(|p| rust_type.strip_prefix(p));
    if let Some(of) = perhaps.and_then(|t| t.strip_suffix('>')) {
        return format!("{}?", json_type(of));
    }
    if let Some(of) = rust_type.strip_prefix("Vec<").and_then(|t| t.strip_suffix('>')) {
        return format!("[{}]", json_type(of));
    }
    match rust_type {
        "String" | "Arc<str>" | "Cow<'static, str>" | "PackedHashes" | "PromptBlocks" | "TraceId"
        | "SpanId" => "string".to_owned(),
        "bool" => "true/false".to_owned(),
        "f32" | "f64" => "number".to_owned(),
        "Parts" => "[number]".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "i64" => "integer".to_owned(),
        "BTreeMap<String, String>" => "object of strings".to_owned(),
        boxed if boxed.starts_with("Box<") => inner(boxed).to_owned(),
        named => named.to_owned(),
    }
}

fn row(out: &mut String, name: &str, kind: &str, doc: &str) {
    let head = if kind.is_empty() { format!("  {name:<30}") } else { format!("  {name:<30} {kind:<18}") };
    let indent = head.chars().count() + 1;
    let mut used = indent;
    out.push_str(&head);
    for (i, word) in doc.split_whitespace().enumerate() {
        if i > 0 && used + 1 + word.chars().count() > indent + WIDTH.saturating_sub(indent).max(40) {
            let _ = write!(out, "\n{:indent$}{word}", "");
            used = indent + word.chars().count();
        } else {
            let _ = write!(out, " {word}");
            used += 1 + word.chars().count();
        }
    }
    out.push('\n');
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The public structs and enums of a source file.
fn parse(source: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut open = false;
    let mut doc = String::new();
    let mut flatten = false;
    for line in source.lines() {
        let code = line.trim();
        if let Some(text) = code.strip_prefix("/// ") {
            if !doc.is_empty() {
                doc.push(' ');
            }
            doc.push_str(&text.replace("[`", "").replace("`]", "").replace('`', ""));
        } else if code.starts_with("#[") {
            flatten |= code.contains("flatten");
        } else if let Some((name, is_enum)) = opening(line) {
            items.push(Item { name, doc: std::mem::take(&mut doc), is_enum, members: Vec::new() });
            open = true;
        } else if line == "}" {
            open = false;
        } else {
            if let Some(item) = items.last_mut().filter(|_| open)
                && let Some((name, rust_type)) = member(code, item.is_enum)
            {
                item.members.push(Member { name, rust_type, doc: std::mem::take(&mut doc), flatten });
            }
            doc.clear();
            flatten = false;
        }
    }
    items
}

fn opening(line: &str) -> Option<(String, bool)> {
    let rest = line.strip_suffix(" {")?;
    let (name, is_enum) = match rest.strip_prefix("pub struct ") {
        Some(name) => (name, false),
        None => (rest.strip_prefix("pub enum ")?, true),
    };
    Some((name.to_owned(), is_enum))
}

/// `pub name: Type,` of a struct; `Name,` or `Name(Type),` of an enum.
fn member(code: &str, in_enum: bool) -> Option<(String, String)> {
    let code = code.strip_suffix(',')?;
    if in_enum {
        let (name, of) = code.split_once('(').unwrap_or((code, ")"));
        return Some((name.to_owned(), of.trim_end_matches(')').to_owned()));
    }
    let (name, rust_type) = code.strip_prefix("pub ")?.split_once(": ")?;
    Some((name.to_owned(), rust_type.to_owned()))
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
#[cfg(test)]
pub(crate) use tests::filled_records;
