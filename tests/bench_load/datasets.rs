//! Data set files: what is read, and how errors name the place.

use std::path::PathBuf;

use milepost::load::dataset::{Content, Dataset, FileOptions};

fn options(name: &str) -> FileOptions {
    let path = PathBuf::from(format!("{}/tests/data/load/{name}", env!("CARGO_MANIFEST_DIR")));
    FileOptions { path: Some(path), ..FileOptions::default() }
}

fn text(content: &Content) -> &str {
    match content {
        Content::Text(text) => text,
        _ => panic!("a text was expected"),
    }
}

#[test]
fn sharegpt_takes_first_two_turns_of_fitting_conversations() {
    let loaded = Dataset::ShareGpt(options("sharegpt_small.json")).load(10, 1, true).unwrap();
    let mut prompts: Vec<&str> = loaded.prompts.iter().map(|p| text(&p.content)).collect();
    prompts.sort_unstable();
    // "Alone" has one turn, "Hi" one token.
    assert_eq!(prompts, ["Name three colours, please.", "What is the capital of France?"]);
    let of_france = loaded.prompts.iter().find(|p| text(&p.content).contains("France")).unwrap();
    assert_eq!((of_france.planned_tokens, of_france.output_tokens), (8, 8));
}

#[test]
fn sharegpt_orders_by_seed_alone() {
    let order =
        |seed| Dataset::ShareGpt(options("sharegpt_small.json")).load(10, seed, true).unwrap().prompts;
    assert_eq!(order(3), order(3));
    assert!((0..20).any(|seed| order(seed) != order(3)));
}

#[test]
fn sharegpt_without_a_file_says_where_to_get_it() {
    let e = Dataset::ShareGpt(FileOptions::default()).load(1, 1, true).unwrap_err().to_string();
    assert!(e.contains("huggingface.co") && e.contains("--dataset-path"), "{e}");
}

#[test]
fn custom_keeps_ids_and_order() {
    let loaded = Dataset::Custom(options("custom.jsonl")).load(10, 1, true).unwrap();
    let seen: Vec<_> = loaded.prompts.iter().map(|p| (p.id.as_deref(), p.words(), p.output_tokens)).collect();
    assert_eq!(seen, [(Some("q-1"), Some(2), 8), (Some("q-2"), Some(1), 3)]);
    assert_eq!(Dataset::Custom(options("custom.jsonl")).load(1, 1, true).unwrap().prompts.len(), 1);
}

#[test]
fn bad_files_are_errors_that_name_the_place() {
    for (name, expected) in [
        ("custom_duplicate.jsonl", "\"q-1\" is there twice"),
        ("custom_malformed.jsonl", "custom_malformed.jsonl line 2"),
        ("custom_latin1.jsonl", "line 2: not UTF-8"),
        ("none.jsonl", "none.jsonl: No such file"),
        ("", "this is a directory"),
    ] {
        let e = Dataset::Custom(options(name)).load(10, 1, true).unwrap_err().to_string();
        assert!(e.contains(expected), "{name}: {e}");
    }
}
