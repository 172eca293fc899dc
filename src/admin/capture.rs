//! `POST /milepost/trace/start|stop|rotate|mark` and `GET /milepost/trace/status`: the capture while the router runs.
//!
//! Rule: each answer says how the capture stands then; the writer is asked off the threads that serve requests, within a time
//! limit. Deliberately not here: doing it (`trace::capture`), reading the trace (`trace_tail`).

use std::sync::Arc;

use http::Response;
use serde::Deserialize;

use super::errand::Errand;
use super::json as reply;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Refusal;
use crate::trace::capture::{Capture, CaptureError, Command};
use crate::wire::problem::Problem;

/// What a body may say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    /// Of `start`: a name in the router's folder.
    name: Option<String>,
    /// Of `mark`.
    label: Option<String>,
}

/// Does what the last part of the path says.
pub async fn steer(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let command = command(&errand.path, &errand.body)?;
    let capture = of(errand)?;
    let asked = tokio::task::spawn_blocking(move || capture.ask(command)).await;
    match asked.unwrap_or(Err(CaptureError::Ended)) {
        Ok(status) => {
            let mut told = serde_json::to_value(status).unwrap_or_default();
            if let Some(spans) = &errand.shared.spans {
                told["spans"] = serde_json::to_value(spans.outbox.status()).unwrap_or_default();
            }
            Ok(reply(200, &told))
        }
        Err(error) => Err(problem(&error).into()),
    }
}

/// The capture of this router, if there is or may be one.
pub(super) fn of(errand: &Errand<'_>) -> Result<Arc<Capture>, Problem> {
    errand.shared.capture.clone().ok_or_else(|| {
        Problem::new(404, "no_trace", "this router runs without --trace-log and without --trace-dir")
    })
}

fn command(path: &str, body: &[u8]) -> Result<Command, Problem> {
    let verb = path.rsplit('/').next().unwrap_or_default();
    let bad = |why: String| Problem::new(400, "bad_request", why);
    let said: Said = match body {
        [] => Said::default(),
        // The error quotes what was said, which may be anything.
        body => serde_json::from_slice(body).map_err(|_| {
            bad(format!(
                "{verb}: expected a JSON object with {}",
                match verb {
                    "start" => "perhaps a name, a text",
                    "mark" => "a label, a text",
                    _ => "nothing in it, or no body",
                }
            ))
        })?,
    };
    match (verb, said) {
        ("start", Said { name, label: None }) => Ok(Command::Start(name)),
        ("mark", Said { name: None, label: Some(label) }) => Ok(Command::Mark(label)),
        ("mark", _) => Err(bad("mark: expected {\"label\":\"..\"}".to_owned())),
        ("stop", Said { name: None, label: None }) => Ok(Command::Stop),
        ("rotate", Said { name: None, label: None }) => Ok(Command::Rotate),
        ("status", _) => Ok(Command::Status),
        (verb, _) => Err(bad(format!("{verb}: it takes nothing of what the body says"))),
    }
}

fn problem(error: &CaptureError) -> Problem {
    let (status, code) = match error {
        CaptureError::Running(_) => (409, "capture_running"),
        CaptureError::Stopped => (409, "capture_stopped"),
        CaptureError::NoFile => (409, "capture_without_file"),
        CaptureError::NoFolder | CaptureError::NoName => (409, "capture_without_folder"),
        CaptureError::Exists(_) => (409, "capture_exists"),
        CaptureError::Name | CaptureError::Label => (400, "bad_request"),
        CaptureError::Failed(_) => (500, "capture_failed"),
        CaptureError::Stuck => (503, "capture_stuck"),
        CaptureError::Ended => (503, "shutting_down"),
    };
    Problem::new(status, code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_command_takes_is_taken() {
        let read = |verb: &str, body: &str| {
            command(&format!("/milepost/trace/{verb}"), body.as_bytes()).map_err(|problem| problem.status)
        };
        assert_eq!(read("start", ""), Ok(Command::Start(None)));
        assert_eq!(read("start", r#"{"name":"a"}"#), Ok(Command::Start(Some("a".into()))));
        assert_eq!(read("mark", r#"{"label":"a"}"#), Ok(Command::Mark("a".into())));
        assert_eq!((read("stop", "{}"), read("rotate", "")), (Ok(Command::Stop), Ok(Command::Rotate)));
        for (verb, body) in [
            ("start", r#"{"file":"/etc/passwd"}"#),
            ("start", r#"{"label":"a"}"#),
            ("start", "name"),
            ("mark", ""),
            ("mark", r#"{"label":7}"#),
            ("stop", r#"{"name":"a"}"#),
        ] {
            assert_eq!(read(verb, body), Err(400), "{verb} {body}");
        }
    }
}
