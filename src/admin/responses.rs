//! `/v1/responses/{id}`: a stored response, at whichever worker made it.
//!
//! Rule: all workers are asked, the first success is passed on as it came and the others are dropped; without one, the last
//! status that a worker gave. Deliberately not here: `POST /v1/responses`, which is routed like any generation.

use http::Response;

use super::errand::{Errand, no_answer, no_workers, passed};
use super::fan_out::{ask_all, servers};
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::{Journey, Refusal};

/// Largest response passed on.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// `GET` and `DELETE /v1/responses/{id}`, `POST ../cancel`, `GET ../input_items`.
pub async fn find(errand: &Errand<'_>, journey: &mut Journey) -> Result<Response<AnswerBody>, Refusal> {
    let mut question = errand.same(errand.time_left());
    question.max_answer_bytes = MAX_ANSWER_BYTES;
    let mut asked = ask_all(errand.shared, servers(errand.shared), &question);
    let mut refused = None;
    let mut error = None;
    while let Some(heard) = asked.next().await {
        match heard.answer {
            Ok(answer) if answer.status.is_success() => {
                journey.note(|r| r.worker = Some(heard.worker.url.shared()));
                return Ok(passed(answer));
            }
            Ok(answer) => refused = Some((heard.worker, answer)),
            Err(words) => error = Some(words),
        }
    }
    match (refused, error) {
        (Some((worker, answer)), _) => {
            journey.note(|r| r.worker = Some(worker.url.shared()));
            Ok(passed(answer))
        }
        (None, Some(error)) => Err(no_answer(&error)),
        (None, None) => Err(no_workers()),
    }
}
