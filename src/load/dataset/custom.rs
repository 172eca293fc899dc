//! `custom`: the user's own prompts, JSON lines or one JSON array, in the file's order.
//!
//! A row is `{"prompt": str, "output_len": n | "completion": str, "id": str?}`, or, as `bench_serving` has it,
//! `{"conversations": [{"content"|"value": str} x 2 or more]}`. Rule: a malformed row is an error, not a smaller run.

use serde_json::Value;

use super::{Content, DatasetError, FileOptions, Loaded, Prompt, approximate_tokens, file};

pub(super) fn load(options: &FileOptions, count: usize) -> Result<Loaded, DatasetError> {
    let Some(path) = &options.path else {
        return Err(DatasetError::new(
            "dataset custom: --dataset-path is missing; expected a file of JSON lines such as {\"prompt\":\"...\",\"output_len\":128}",
        ));
    };
    let text = file::read(path)?;
    let mut loaded = Loaded::default();
    let mut too_long = 0_u64;
    for row in file::rows(&text, path)? {
        // Those that are not sent must be rows all the same.
        let (line, row) = row?;
        if loaded.prompts.len() == count {
            continue;
        }
        let prompt = prompt_of(&row, options).map_err(|what| {
            DatasetError::new(format!("--dataset-path {} line {line}: {what}", path.display()))
        })?;
        if options.context_tokens.is_some_and(|most| prompt.planned_tokens + prompt.output_tokens > most) {
            too_long += 1;
        } else {
            loaded.prompts.push(prompt);
        }
    }
    if too_long > 0 {
        loaded
            .notes
            .push(format!("{too_long} prompts are longer than the context length given and were left out"));
    }
    Ok(loaded)
}

fn prompt_of(row: &Value, options: &FileOptions) -> Result<Prompt, String> {
    let (text, completion) = match row.get("prompt") {
        Some(Value::String(text)) => (text.as_str(), row.get("completion")),
        Some(other) => return Err(format!("prompt: expected a string, got {}", kind(other))),
        None => conversation(row)?,
    };
    if text.trim().is_empty() {
        return Err("prompt: expected a text, got an empty one".to_owned());
    }
    let from_row = match (row.get("output_len"), completion) {
        (Some(n), _) => n
            .as_u64()
            .ok_or_else(|| format!("output_len: expected a whole number of tokens, got {n}"))
            .map(Some)?,
        (None, Some(Value::String(answer))) => Some(approximate_tokens(answer).max(1)),
        (None, Some(other)) => {
            return Err(format!("completion: expected a string, got {}", kind(other)));
        }
        (None, None) => None,
    };
    let output_tokens = options
        .output_tokens
        .or(from_row)
        .ok_or("expected output_len or completion (or give --sharegpt-output-len)")?;
    if output_tokens == 0 {
        return Err("output_len: expected at least 1 token".to_owned());
    }
    let id = match row.get("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        Some(other) => {
            return Err(format!("id: expected a string or a number, got {}", kind(other)));
        }
    };
    Ok(Prompt {
        id,
        planned_tokens: approximate_tokens(text),
        content: Content::Text(text.to_owned()),
        output_tokens,
        group: None,
        turn: None,
    })
}

fn conversation(row: &Value) -> Result<(&str, Option<&Value>), String> {
    let turns = row.get("conversations").or_else(|| row.get("conversation")).and_then(Value::as_array);
    let turns = turns.ok_or("expected a field prompt (or conversations)")?;
    let text = |i: usize| turns.get(i).and_then(|t| t.get("content").or_else(|| t.get("value")));
    match text(0) {
        Some(Value::String(first)) => Ok((first, text(1))),
        _ => Err("conversations[0]: expected an object with a string content (or value)".to_owned()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_of_each_shape() {
        let o = FileOptions::default();
        let p = prompt_of(&json!({"prompt": "Hello world", "output_len": 5, "id": "a"}), &o).unwrap();
        assert_eq!((p.output_tokens, p.id.as_deref(), p.words()), (5, Some("a"), Some(2)));
        let p = prompt_of(&json!({"prompt": "x y", "completion": "one two three"}), &o).unwrap();
        assert_eq!(p.output_tokens, 3);
        let p = prompt_of(&json!({"conversations": [{"value": "x"}, {"value": "one two"}]}), &o).unwrap();
        assert_eq!(p.output_tokens, 2);
    }

    #[test]
    fn malformed_rows_say_what_is_wrong() {
        let o = FileOptions::default();
        let cases = [
            (json!({"text": "x"}), "prompt"),
            (json!({"prompt": 3, "output_len": 1}), "expected a string, got a number"),
            (json!({"prompt": " ", "output_len": 1}), "empty"),
            (json!({"prompt": "x"}), "output_len or completion"),
            (json!({"prompt": "x", "output_len": 0}), "at least 1"),
            (json!({"prompt": "x", "output_len": -1}), "whole number"),
            (json!({"prompt": "x", "output_len": 1, "id": []}), "id"),
        ];
        for (row, expected) in cases {
            let e = prompt_of(&row, &o).unwrap_err();
            assert!(e.contains(expected), "{e}");
        }
    }
}
