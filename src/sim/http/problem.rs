//! Refusals, in the words of each server.
//!
//! Rule: a refusal is a value until it is answered here; status, shape and keys are those of the captured answers. A position
//! in bad JSON is this parser's, the quoted path of a Python file is the module's. Deliberately not here: checking.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, to_string};

use super::reply::{DONE, Replies, SimBody, event};
use crate::sim::dialect::Dialect;

/// Which family of endpoints refuses: they have different error shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// /generate.
    Native,
    /// /v1/chat/completions.
    Chat,
    /// /v1/completions.
    Completions,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Not JSON: position and the parser's words.
    BadJson(usize, String),
    /// No body.
    NoBody,
    /// A field has the wrong type.
    WrongType(&'static str, Value),
    /// A required field is missing.
    Missing(&'static str, Value),
    /// Not `application/json`.
    ContentType,
    /// A value that cannot be: the server's words.
    Value(String),
    /// A chat that is refused before it is read on: the server's words and error type.
    Early(&'static str, &'static str),
    /// A sampling parameter that does not exist.
    UnknownSampling(String),
    /// The body is larger than this worker reads.
    TooLarge(usize),
}

/// Every sampling parameter of 0.5.23, in the order in which it lists them.
pub const SAMPLING_PARAMS: [&str; 28] = [
    "max_new_tokens",
    "stop",
    "stop_token_ids",
    "stop_regex",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "min_new_tokens",
    "n",
    "json_schema",
    "regex",
    "ebnf",
    "structural_tag",
    "ignore_eos",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "no_stop_trim",
    "stream_interval",
    "logit_bias",
    "sampling_seed",
    "custom_params",
    "beam_width",
    "watermark",
    "choice",
];

impl Refusal {
    /// The response.
    pub fn answer(&self, replies: Replies, family: Family, stream: bool) -> Response<SimBody> {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::TooLarge(limit) => {
                let message = format!("the simulated worker reads bodies of at most {limit} bytes");
                replies
                    .json(StatusCode::PAYLOAD_TOO_LARGE, object("error", &message, "Payload Too Large", 413))
            }
            Self::UnknownSampling(_) if replies.dialect.is_049() && family == Family::Native => {
                internal_error(replies)
            }
            Self::Value(message) if stream => value_in_stream(replies, family, message),
            _ if replies.dialect.is_rust() => replies.json(bad, self.rust(family)),
            Self::Early(message, kind) => replies.json(bad, object("error", message, kind, 400)),
            Self::Value(message) if family == Family::Native => replies.json(bad, native(message)),
            Self::UnknownSampling(key) => {
                replies.json(bad, format!("{{\"error\":{}}}", quoted(&unknown_sampling(key))))
            }
            Self::Value(message) => replies.json(bad, object("error", message, "BadRequestError", 400)),
            _ => replies
                .json(bad, object("error", &self.validation(replies.dialect, family), "Bad Request", 400)),
        }
    }

    /// `FastAPI`'s account of a body that does not fit.
    fn validation(&self, dialect: Dialect, family: Family) -> String {
        if let (Self::ContentType, Family::Chat | Family::Completions) = (self, family) {
            let detail = "{'loc': ['header', 'content-type'], 'msg': \"Unsupported Media Type: Only 'application/json' is allowed\", 'type': 'value_error'}";
            return format!("1 validation error:\n  {detail} [{detail}]");
        }
        let details = self.details(dialect);
        let count = if details.len() == 1 {
            "1 validation error".to_owned()
        } else {
            format!("{} validation errors", details.len())
        };
        let (line, function, path) = match (family, dialect.is_049()) {
            (Family::Native, true) => (328, "generate_request", "/generate"),
            (Family::Native, false) => (928, "generate_request", "/generate"),
            (Family::Chat, true) => (758, "openai_v1_chat_completions", "/v1/chat/completions"),
            (Family::Chat, false) => (1870, "openai_v1_chat_completions", "/v1/chat/completions"),
            (Family::Completions, true) => (750, "openai_v1_completions", "/v1/completions"),
            (Family::Completions, false) => (1858, "openai_v1_completions", "/v1/completions"),
        };
        let file = "sglang/srt/entrypoints/http_server.py";
        let (lines, list) = (details.join("\n  "), details.join(", "));
        format!(
            "{count}:\n  {lines}\n\n  File \"{file}\", line {line}, in {function}\n    POST {path} [{list}]"
        )
    }

    fn details(&self, dialect: Dialect) -> Vec<String> {
        match self {
            Self::BadJson(at, _) => {
                let error = if dialect.is_049() { "Expecting value" } else { "unexpected end of data" };
                vec![format!("{{'type': 'json_invalid', 'loc': ('body', {at}), 'msg': 'JSON decode error', 'input': {{}}, 'ctx': {{'error': '{error}'}}}}")]
            }
            Self::WrongType(field, input) => vec![
                format!("{{'type': 'string_type', 'loc': ('body', '{field}', 'str'), 'msg': 'Input should be a valid string', 'input': {input}}}"),
                format!("{{'type': 'list_type', 'loc': ('body', '{field}', 'list[str]'), 'msg': 'Input should be a valid list', 'input': {input}}}"),
            ],
            Self::Missing(field, input) => {
                vec![format!("{{'type': 'missing', 'loc': ('body', '{field}'), 'msg': 'Field required', 'input': {input}}}")]
            }
            Self::NoBody => vec!["{'type': 'missing', 'loc': ('body',), 'msg': 'Field required', 'input': None}".to_owned()],
            _ => vec!["{'type': 'dataclass_type', 'loc': ('body',), 'msg': 'Input should be a dictionary or an instance of GenerateReqInput', 'ctx': {'class_name': 'GenerateReqInput'}}".to_owned()],
        }
    }

    fn rust(&self, family: Family) -> String {
        let message = match self {
            Self::BadJson(_, words) => format!("Failed to parse the request body as JSON: {words}"),
            Self::NoBody => {
                "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 0"
                    .to_owned()
            }
            Self::WrongType(_, input) => {
                format!("invalid type: {input}, expected a value or an array of values for StringOrList")
            }
            Self::Missing(field, _) => {
                format!("Failed to deserialize the JSON body into the target type: missing field `{field}`")
            }
            Self::ContentType => "Expected request with `Content-Type: application/json`".to_owned(),
            Self::Value(message) => format!("validation failed: {message}"),
            Self::UnknownSampling(key) => unknown_sampling(key),
            Self::Early(message, _) => (*message).to_owned(),
            Self::TooLarge(_) => "body too large".to_owned(),
        };
        match (family, self) {
            (Family::Native, _) => format!("{{\"error\":{{\"message\":{},\"code\":400}}}}", quoted(&message)),
            (_, Self::Value(_)) => object("error", &message, "BadRequestError", 400),
            _ => format!("{{\"error\":{}}}", object("error", &message, "BadRequestError", 400)),
        }
    }
}

/// A full queue, for an answer that is not streamed.
pub fn queue_full(replies: Replies) -> Response<SimBody> {
    let message = "The request queue is full.";
    let body = if replies.dialect.is_rust() {
        format!("{{\"error\":{{\"message\":{},\"code\":503}}}}", quoted(message))
    } else {
        object("error", message, "503", 503)
    };
    replies.json(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// A full queue, as the event of a chat or completions stream.
pub fn queue_full_event() -> Bytes {
    event(&format!(
        "{{\"error\":{}}}",
        object("error", "The request queue is full.", "SERVICE_UNAVAILABLE", 503)
    ))
}

/// What uvicorn says when a handler raised.
pub fn internal_error(replies: Replies) -> Response<SimBody> {
    let body = Bytes::from_static(b"Internal Server Error");
    replies.whole(StatusCode::INTERNAL_SERVER_ERROR, Some("text/plain; charset=utf-8"), None, body)
}

/// `{"object":"error","message":..,"type":..,"param":null,"code":..}`.
pub fn object(kind: &str, message: &str, error_type: &str, code: u16) -> String {
    format!(
        "{{\"object\":\"{kind}\",\"message\":{},\"type\":\"{error_type}\",\"param\":null,\"code\":{code}}}",
        quoted(message)
    )
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    to_string(text).unwrap_or_default()
}

fn native(message: &str) -> String {
    format!("{{\"error\":{{\"message\":{}}}}}", quoted(message))
}

fn unknown_sampling(key: &str) -> String {
    format!("unknown field `{key}`, expected one of `{}`", SAMPLING_PARAMS.join("`, `"))
}

fn value_in_stream(replies: Replies, family: Family, message: &str) -> Response<SimBody> {
    let json = match (replies.dialect, family) {
        (Dialect::V0523Rust, Family::Native) => {
            format!(
                "{{\"error\":{{\"message\":{},\"code\":400}}}}",
                quoted(&format!("validation failed: {message}"))
            )
        }
        (_, Family::Native) if replies.dialect.is_049() => native(message),
        (_, Family::Native) => format!(
            "{{\"error\":{{\"message\":{},\"type\":\"invalid_request_error\",\"code\":400,\"retryable\":false}}}}",
            quoted(message)
        ),
        _ if replies.dialect.is_049() => format!(
            "{{\"error\": {{\"object\": \"error\", \"message\": {}, \"type\": \"BadRequestError\", \"param\": null, \"code\": 400}}}}",
            quoted(message)
        ),
        _ => return Refusal::Value(message.to_owned()).answer(replies, family, false),
    };
    replies.events(family == Family::Chat, vec![Ok(event(&json)), Ok(DONE)])
}
