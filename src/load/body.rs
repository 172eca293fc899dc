//! Request bodies, as `bench_serving` makes them.
//!
//! Rule: `--extra-request-body` is laid over a body, object into object, and what is reported as asked for is read from the
//! result. The same prompt has the same body, byte for byte. Deliberately not here: when bodies are made, and sending.

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use super::backend::Backend;
use super::backend::Shape;
use super::dataset::{Content, Prompt};

/// Stands for greedy sampling where 0 is refused.
const LEAST_TEMPERATURE: f64 = 1e-6;
/// A token id that no vocabulary has, so that no token ends an answer.
const NO_TOKEN: u32 = 1 << 20;

/// How to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestOptions {
    /// Ask for a stream.
    pub stream: bool,
    /// Go on to the length asked for, past the model's own end.
    pub ignore_eos: bool,
    /// Sampling temperature.
    pub temperature: f64,
    /// `--top-p`, sent only if given.
    pub top_p: Option<f64>,
    /// `--extra-request-body`.
    pub extra: Map<String, Value>,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self { stream: true, ignore_eos: true, temperature: 0.0, top_p: None, extra: Map::new() }
    }
}

/// A body ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// JSON.
    pub bytes: Bytes,
    /// Output tokens it asks for, after `--extra-request-body`.
    pub max_new_tokens: Option<u64>,
    /// It asks for a stream, after `--extra-request-body`.
    pub stream: bool,
}

/// Makes the body for one prompt. `model` is left out of `/generate`.
///
/// # Errors
/// Token ids for an OpenAI endpoint.
pub fn make(
    backend: Backend,
    model: &str,
    prompt: &Prompt,
    options: &RequestOptions,
) -> Result<Body, String> {
    let mut body = match (backend.shape(), &prompt.content) {
        (Shape::Native, Content::Text(text)) => native(json!({ "text": text }), prompt, options),
        (Shape::Native, Content::Blocks(blocks)) => {
            native(json!({ "input_ids": blocks.token_ids() }), prompt, options)
        }
        (Shape::Native, Content::Drawn(drawn)) if !drawn.as_words => {
            native(json!({ "input_ids": drawn.token_ids() }), prompt, options)
        }
        (_, Content::Blocks(blocks)) => {
            return make(backend, model, &saying(prompt, blocks.words()), options);
        }
        (_, Content::Drawn(drawn)) if drawn.as_words => {
            return make(backend, model, &saying(prompt, drawn.words()), options);
        }
        (_, Content::Drawn(_)) => {
            return Err(format!("backend {}: token ids can only be sent to /generate", backend.name()));
        }
        (Shape::Chat, Content::Conversation(said)) => {
            let roles = ["user", "assistant"].into_iter().cycle();
            let messages: Vec<Value> =
                roles.zip(said).map(|(role, text)| json!({ "role": role, "content": text })).collect();
            open_ai(json!({ "model": model, "messages": messages }), prompt, options)
        }
        (_, Content::Conversation(said)) => {
            // The next question begins a paragraph; the answer goes on where the prompt ended.
            let parts = said.iter().enumerate();
            let text =
                parts.map(|(i, part)| if i > 0 && i % 2 == 0 { format!("\n\n{part}") } else { part.clone() });
            return make(backend, model, &saying(prompt, text.collect()), options);
        }
        (Shape::Completions, Content::Text(text)) => {
            open_ai(json!({ "model": model, "prompt": text }), prompt, options)
        }
        (Shape::Chat, Content::Text(text)) => open_ai(
            json!({ "model": model, "messages": [{ "role": "user", "content": text }] }),
            prompt,
            options,
        ),
        (Shape::Triton, Content::Text(text)) => triton(json!({ "text_input": text }), prompt, options),
    };
    lay_over(&mut body, &options.extra);
    let max_new_tokens = match backend.shape() {
        Shape::Native => body["sampling_params"]["max_new_tokens"].as_u64(),
        _ => body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
    };
    let stream = body["stream"].as_bool().unwrap_or(false);
    Ok(Body { bytes: Bytes::from(body.to_string()), max_new_tokens, stream })
}

/// The prompt as text.
fn saying(prompt: &Prompt, text: String) -> Prompt {
    let (planned_tokens, output_tokens) = (prompt.planned_tokens, prompt.output_tokens);
    Prompt { id: None, content: Content::Text(text), planned_tokens, output_tokens, group: None, turn: None }
}

fn native(mut body: Value, prompt: &Prompt, options: &RequestOptions) -> Value {
    let mut sampling = json!({
        "temperature": options.temperature, "max_new_tokens": prompt.output_tokens, "ignore_eos": options.ignore_eos,
    });
    if let Some(top_p) = options.top_p {
        sampling["top_p"] = json!(top_p);
    }
    body["sampling_params"] = sampling;
    body["stream"] = json!(options.stream);
    body
}

fn open_ai(mut body: Value, prompt: &Prompt, options: &RequestOptions) -> Value {
    body["temperature"] = json!(options.temperature);
    body["max_tokens"] = json!(prompt.output_tokens);
    body["ignore_eos"] = json!(options.ignore_eos);
    body["stream"] = json!(options.stream);
    if let Some(top_p) = options.top_p {
        body["top_p"] = json!(top_p);
    }
    if options.stream {
        // Without it an OpenAI stream has no token counts at all.
        body["stream_options"] = json!({ "include_usage": true });
    }
    body
}

/// As `bench_serving` asks: what cannot end before its length instead of `ignore_eos`, and no temperature of 0. The least length
/// has one name in the ensemble of older versions and another in that of later ones; which is not known is passed over.
fn triton(mut body: Value, prompt: &Prompt, options: &RequestOptions) -> Value {
    body["accumulate_tokens"] = json!(true);
    body["temperature"] = json!(options.temperature.max(LEAST_TEMPERATURE));
    body["top_p"] = json!(options.top_p.unwrap_or(1.0));
    body["max_tokens"] = json!(prompt.output_tokens);
    body["stream"] = json!(options.stream);
    if options.ignore_eos {
        body["min_length"] = json!(prompt.output_tokens);
        body["min_tokens"] = json!(prompt.output_tokens);
        body["end_id"] = json!(NO_TOKEN);
    }
    body
}

/// Lays an object over another, object into object.
pub(super) fn lay_over(body: &mut Value, extra: &Map<String, Value>) {
    for (key, value) in extra {
        match (&mut body[key], value) {
            (below @ Value::Object(_), Value::Object(above)) => lay_over(below, above),
            (below, above) => *below = above.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::dataset::{Dataset, RandomOptions};

    fn prompt(content: Content) -> Prompt {
        Prompt { id: None, content, planned_tokens: 2, output_tokens: 7, group: None, turn: None }
    }

    fn json_of(backend: Backend, options: &RequestOptions) -> Value {
        let body = make(backend, "m", &prompt(Content::Text("Hi \"you\"\n".to_owned())), options).unwrap();
        assert_eq!(body.max_new_tokens, Some(7));
        serde_json::from_slice(&body.bytes).unwrap()
    }

    #[test]
    fn each_backend_has_its_shape() {
        let o = RequestOptions::default();
        assert_eq!(
            json_of(Backend::Native, &o),
            json!({"text": "Hi \"you\"\n", "sampling_params": {"temperature": 0.0, "max_new_tokens": 7, "ignore_eos": true}, "stream": true})
        );
        assert_eq!(
            json_of(Backend::Completions, &o),
            json!({"model": "m", "prompt": "Hi \"you\"\n", "temperature": 0.0, "max_tokens": 7, "ignore_eos": true, "stream": true,
                "stream_options": {"include_usage": true}})
        );
        assert_eq!(
            json_of(Backend::Chat, &o)["messages"],
            json!([{"role": "user", "content": "Hi \"you\"\n"}])
        );
        assert_eq!(json_of(Backend::Vllm, &o), json_of(Backend::Completions, &o));
        assert_eq!(json_of(Backend::LmdeployChat, &o), json_of(Backend::Chat, &o));
        assert_eq!(
            json_of(Backend::Triton, &o),
            json!({"text_input": "Hi \"you\"\n", "accumulate_tokens": true, "temperature": 1e-6, "top_p": 1.0, "max_tokens": 7,
                "min_length": 7, "min_tokens": 7, "end_id": 1_048_576, "stream": true})
        );
        let ends = RequestOptions { ignore_eos: false, ..o.clone() };
        assert!(json_of(Backend::Triton, &ends).get("end_id").is_none());
        let plain = RequestOptions { stream: false, ..o };
        assert!(json_of(Backend::Chat, &plain).get("stream_options").is_none());
    }

    #[test]
    fn tokens_go_to_generate_only() {
        let options = RandomOptions { input_tokens: 3, output_tokens: 7, range_ratio: 1.0 };
        let made = |exact: bool, backend: Backend| {
            let prompts = Dataset::Random(options).load(1, 1, exact).unwrap().prompts;
            let body = make(backend, "", &prompts[0], &RequestOptions::default())?;
            Ok::<Value, String>(serde_json::from_slice(&body.bytes).unwrap())
        };
        assert_eq!(made(true, Backend::Native).unwrap()["input_ids"].as_array().unwrap().len(), 3);
        assert!(made(true, Backend::Chat).is_err());
        let text = made(false, Backend::Completions).unwrap()["prompt"].as_str().unwrap().to_owned();
        assert_eq!(text.split(' ').count(), 3);
    }

    #[test]
    fn the_extra_body_is_laid_over_and_read_back() {
        let extra = json!({"sampling_params": {"max_new_tokens": 3}, "stream": false, "rid": "x"});
        let options =
            RequestOptions { extra: extra.as_object().unwrap().clone(), ..RequestOptions::default() };
        let body = make(Backend::Native, "", &prompt(Content::Text("a".to_owned())), &options).unwrap();
        assert_eq!((body.max_new_tokens, body.stream), (Some(3), false));
        let json: Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(json["sampling_params"]["ignore_eos"], json!(true));
        assert_eq!(json["rid"], json!("x"));
    }
}
