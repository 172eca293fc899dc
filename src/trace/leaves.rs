//! The values of a record that are neither objects nor looked into, by name: what a table has columns for.
//!
//! Rule: one source, the types that are written; a field that is added to them is a leaf without another line of code.
//! Deliberately not here: tables (`export`), the text of the schema (`schema`).

use super::schema::{Item, inner, items};

/// What a leaf holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafKind {
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Number,
    /// True or false.
    Truth,
    /// Words.
    Text,
    /// A list, or an object without fixed names.
    List,
}

/// A value inside a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Names from the record inwards; the last is the leaf's own.
    pub path: Vec<String>,
    /// What it holds.
    pub kind: LeafKind,
    /// Meaning and unit.
    pub doc: String,
}

/// The leaves of a type of the schema, in the order in which they are written.
pub fn leaves(type_name: &str) -> Vec<Leaf> {
    let mut found = Vec::new();
    gather(&items(), type_name, &[], &mut found);
    found
}

fn gather(items: &[Item], type_name: &str, outer: &[String], found: &mut Vec<Leaf>) {
    let Some(item) = items.iter().find(|item| item.name == type_name) else { return };
    for member in &item.members {
        let named = inner(&member.rust_type);
        if member.flatten {
            gather(items, named, outer, found);
            continue;
        }
        let path = [outer, std::slice::from_ref(&member.name)].concat();
        let is_list = member.rust_type.contains("Vec<");
        let within = items.iter().find(|item| item.name == named);
        match within {
            Some(within) if !within.is_enum && !is_list => gather(items, named, &path, found),
            _ => {
                let is_word = within.is_some_and(|item| item.is_enum);
                let kind = if is_list { LeafKind::List } else { kind_of(named, is_word) };
                found.push(Leaf { path, kind, doc: member.doc.clone() });
            }
        }
    }
}

fn kind_of(rust_type: &str, is_word: bool) -> LeafKind {
    match rust_type {
        "bool" => LeafKind::Truth,
        "f32" | "f64" => LeafKind::Number,
        "u8" | "u16" | "u32" | "u64" | "i64" => LeafKind::Integer,
        "String" | "Arc<str>" | "Cow<'static, str>" | "PackedHashes" | "PromptBlocks" | "TraceId"
        | "SpanId" => LeafKind::Text,
        _ if is_word => LeafKind::Text,
        _ => LeafKind::List,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_leaves_of_every_kind_at_every_depth() {
        let leaves = leaves("RequestRecord");
        let kind = |path: &[&str]| leaves.iter().find(|leaf| leaf.path == path).map(|leaf| leaf.kind);
        assert_eq!(kind(&["seq"]), Some(LeafKind::Integer));
        assert_eq!(kind(&["outcome"]), Some(LeafKind::Text));
        assert_eq!(kind(&["stream"]), Some(LeafKind::Truth));
        assert_eq!(kind(&["tokens", "prompt_tokens"]), Some(LeafKind::Integer));
        assert_eq!(kind(&["server", "queue_time"]), Some(LeafKind::Number));
        assert_eq!(kind(&["decision", "margin"]), Some(LeafKind::Number));
        assert_eq!(kind(&["decision", "candidates"]), Some(LeafKind::List));
        assert_eq!(kind(&["shadow"]), Some(LeafKind::List));
        assert_eq!(kind(&["tokens"]), None, "an object has no column of its own");
        assert!(leaves.iter().all(|leaf| !leaf.doc.is_empty()));
    }
}
