//! Reads a request once: the body into the memory its head came in, and a look at it.
//!
//! Rule: the body is kept byte for byte as it came; what the look finds goes into the record and the decision. Limits:
//! `--max-payload-size` for one body, `--max-buffered-request-bytes` for all, `--request-timeout-secs` for the reading.
//! Deliberately not here: parsing (`wire::call`), choosing.

use std::borrow::Cow;
use std::io;

use http::Method;
use milepost_policies::PromptHashes;

use super::Shared;
use super::asked::Asked;
use super::headers::ClientHeaders;
use super::journey::{Halt, Journey, Refusal};
use super::routing::Routing;
use super::visit::{Interrupt, Visit};
use crate::http1::Request;
use crate::trace::prompt::{PromptBlocks, PromptTrace};
use crate::trace::record::Outcome;
use crate::wire::Endpoint;
use crate::wire::call;
use crate::wire::problem::Problem;

/// A request that is ready to be sent to any worker.
#[derive(Debug)]
pub struct Call {
    /// Method and target.
    pub asked: Asked,
    /// The client's bytes; the body as it came.
    pub request: Request,
    /// The body was coded before it was sent.
    pub is_encoded: bool,
    /// What the path means.
    pub endpoint: Endpoint,
    /// The answer holds several sequences (a batch, or `n` > 1).
    pub multiple: bool,
    /// Hashes of the routing text, where a policy wants them; of the engine text, where that is the same.
    pub prompt: Option<PromptHashes>,
    /// Hashes of the engine text where it is another one, and a policy wants them.
    pub engine_prompt: Option<PromptHashes>,
    /// The engine text is token ids.
    pub is_counted: bool,
    /// Length of the prompt in tokens, where the body holds them.
    pub prompt_ids: Option<u64>,
    /// What the headers say about where it wants to go.
    pub routing: Routing,
}

/// What of a request's headers is needed after its body has been read into the same memory.
#[derive(Debug)]
pub struct Heard {
    /// What the headers say about where it wants to go.
    pub routing: Routing,
    /// The body was coded before it was sent.
    pub is_encoded: bool,
}

impl Heard {
    /// From the one pass over the headers.
    pub fn of(shared: &Shared, known: &ClientHeaders<'_>) -> Result<Self, Problem> {
        Ok(Self { routing: Routing::read(shared, known)?, is_encoded: known.is_encoded })
    }
}

/// Makes a call of a request whose body has been read.
pub fn call(shared: &Shared, asked: Asked, request: Request, heard: Heard, journey: &mut Journey) -> Call {
    let mut call = Call {
        endpoint: journey.record().endpoint,
        asked,
        request,
        is_encoded: heard.is_encoded,
        multiple: false,
        prompt: None,
        engine_prompt: None,
        is_counted: false,
        prompt_ids: None,
        routing: heard.routing,
    };
    let conversation = look(shared, &mut call, journey);
    if call.routing.names_policy {
        journey.note(|r| r.policy_by = Some("header".into()));
    } else if let Some(experiment) = &shared.experiment {
        let key = call.routing.key.as_deref();
        let assigned = experiment.assign(key, conversation.as_deref(), &journey.record().request_id);
        call.routing.wanted.policy = assigned.policy;
        journey.note(|r| (r.split_arm, r.split_by) = (Some(assigned.arm), Some(assigned.by.into())));
    }
    call
}

/// Reads the whole body, within every limit.
pub async fn read_body(
    shared: &Shared,
    visit: &mut Visit,
    request: &mut Request,
    journey: &mut Journey,
) -> Result<(), Halt> {
    let limit = shared.config.max_payload_bytes;
    if request.head.message.content_length.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit).into());
    }
    // It was read with the head then, and arrival is when.
    let came_with_head = request.is_all_here();
    if request.head.expects_continue && !came_with_head {
        visit.invite_body().await.map_err(|interrupt| match interrupt {
            Interrupt::Gone => Halt::ClientGone,
            Interrupt::Late => body_late().into(),
        })?;
    }
    let mut reserved = shared.budget.reserve();
    while let Some(bytes) = next_data(visit, request).await? {
        if request.body().len() as u64 > limit {
            return Err(too_large(limit).into());
        }
        if !reserved.grow(bytes as u64) {
            let message = "too many request bodies at once; try again";
            return Err(Problem::new(503, "request_memory_exhausted", message).into());
        }
    }
    let body_bytes = request.body().len() as u64;
    if body_bytes > 0 {
        journey.hold(reserved);
    }
    let body_read_ns = if came_with_head { 0 } else { journey.elapsed_ns() };
    journey.note(|r| {
        r.body_read_ns = Some(body_read_ns);
        r.request_body_bytes = body_bytes;
    });
    Ok(())
}

async fn next_data(visit: &mut Visit, request: &mut Request) -> Result<Option<usize>, Halt> {
    let outcome = match visit.read_body(request).await {
        Ok(Ok(came)) => return Ok(came),
        Ok(Err(error)) => match error.kind() {
            // The body's framing is wrong, as against one that stops.
            io::ErrorKind::InvalidData => Outcome::Refused,
            // It may have closed its half alone, and be there to be told.
            io::ErrorKind::UnexpectedEof => Outcome::ClientGone,
            _ => return Err(Halt::ClientGone),
        },
        Err(Interrupt::Gone | Interrupt::Late) => return Err(body_late().into()),
    };
    let problem = Problem::new(400, "request_body_incomplete", "the request body could not be read");
    Err(Refusal { problem, outcome }.into())
}

fn body_late() -> Refusal {
    let problem = Problem::new(408, "request_body_timeout", "the request body did not arrive in time");
    Refusal { problem, outcome: Outcome::TimedOut }
}

fn too_large(limit: u64) -> Problem {
    Problem::new(
        413,
        "payload_too_large",
        format!("the body is larger than --max-payload-size ({limit} bytes)"),
    )
}

/// Returns the conversation that the body names, where somebody asks for it.
fn look(shared: &Shared, call: &mut Call, journey: &mut Journey) -> Option<String> {
    if !call.endpoint.has_prompt() || call.asked.method != Method::POST {
        journey.note(|r| r.body_look = "not_json_endpoint".into());
        return None;
    }
    if call.is_encoded {
        journey.note(|r| r.body_look = "content_encoding".into());
        return None;
    }
    let needs = shared.fleet.needs();
    let look = call::look_for(call.endpoint, call.request.body(), needs.engine_text);
    call.engine_prompt = look.engine_text.as_deref().map(PromptHashes::of);
    if let Some(text) = &look.text {
        let hashed_bytes = match &call.engine_prompt {
            Some(_) => needs.hashed_routing_bytes(text.len()),
            None => needs.hashed_bytes(text.len()),
        };
        call.prompt = (hashed_bytes > 0).then(|| PromptHashes::of(&text[..hashed_bytes]));
    }
    note_prompt(shared, journey, look.text.as_deref(), call.prompt.as_ref());
    (call.is_counted, call.prompt_ids) = (look.is_counted(), look.prompt_ids);
    call.multiple = look.multiple();
    journey.note(|r| {
        r.body_look = look.parsed.as_str().into();
        r.model = look.model.map(|m| m.chars().take(128).collect());
        r.rid = look.rid.map(|rid| rid.chars().filter(char::is_ascii_graphic).take(128).collect());
        r.stream = look.stream;
        r.max_new_tokens = look.max_new_tokens;
        r.prompts = Some(look.prompts).filter(|p| *p > 0);
        r.samples = Some(look.samples_per_prompt).filter(|n| *n > 1);
        r.prompt_bytes = look.text.as_ref().map(|t| t.len() as u64);
    });
    look.session.filter(|_| shared.experiment.is_some()).map(Cow::into_owned)
}

/// What the trace is to tell of the prompt. Its hashes are those that the policy has, where it has all of them.
fn note_prompt(shared: &Shared, journey: &mut Journey, text: Option<&[u8]>, known: Option<&PromptHashes>) {
    let told = shared.config.capture.prompt;
    let Some(text) = text.filter(|_| told != PromptTrace::None && shared.sink.is_written()) else { return };
    if told == PromptTrace::Hash {
        let whole = known.filter(|known| known.len_bytes() == text.len() as u64);
        let prompt = whole.cloned().unwrap_or_else(|| PromptHashes::of(text));
        journey.note(|r| r.prompt_hashes = Some(PromptBlocks::Raw(prompt)));
    } else {
        journey.note(|r| r.prompt_text = told.told(text));
    }
}
