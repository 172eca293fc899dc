//! One small request to `POST /generate`, seen as a router sees it: its record is one that `trace::align` reads.
//!
//! Rule: a connection of its own, so that nothing is known from before, and a limit on all of it. Deliberately not here: load
//! (`crate::load`), whose client speaks to one plain target.

use http::Method;
use http::header::HeaderMap;

use super::patient::Patient;
use crate::fleet::ask::{self, Question};
use crate::http1::{Connection, Outgoing};
use crate::proxy::headers;
use crate::trace::record::{Outcome, RequestRecord};
use crate::wire::Endpoint;
use crate::wire::answer::{Answer, AnswerReader};

/// Where it is asked.
const PATH: &str = "/generate";
/// Header of every answer of a simulated worker.
const SIMULATED: &str = "x-milepost-simulated";
/// Long enough that a prefix cache with pages of 64 tokens has some of it when it is asked again.
const PROMPT: &str = "A milepost stands by the road and tells how far it is to the next town. \
    Whoever passes reads the number, looks at the clock, and knows how fast the journey has been since the last one. \
    Many roads have them still, made of stone, of iron or of wood, and each of them has seen all who went by. \
    Nobody asks them where the others stand, and yet together they are the only map that was ever measured on foot. \
    Tell me about the next one:";
/// Headers by which a router shows itself.
const ROUTER_HEADERS: [&str; 5] = [
    headers::ARRIVAL_TIME,
    headers::ROUTER_SEND_TIME,
    headers::WORKER_URL,
    headers::ROUTED_WORKER,
    headers::POLICY,
];

/// What is asked for.
pub(super) struct Asked {
    pub(super) stream: bool,
    pub(super) max_new_tokens: u64,
    pub(super) rid: String,
}

impl Asked {
    fn body(&self) -> Vec<u8> {
        serde_json::json!({
            "text": PROMPT,
            "sampling_params": { "max_new_tokens": self.max_new_tokens, "temperature": 0, "ignore_eos": true },
            "stream": self.stream,
            "rid": self.rid,
        })
        .to_string()
        .into_bytes()
    }
}

/// What was seen of it.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) status: Option<u16>,
    /// What went wrong, in words.
    pub(super) error: Option<String>,
    pub(super) answer: Answer,
    /// As a router on this host would have written it, but for the worker.
    pub(super) record: RequestRecord,
    pub(super) simulated: bool,
    pub(super) router_headers: Vec<&'static str>,
    pub(super) worker_url: Option<String>,
}

impl Exchange {
    /// Nanoseconds a token, after the first; `None` if that is not known.
    pub(super) fn token_ns(&self) -> Option<u64> {
        let (first, last) = (self.answer.token_times.first()?, self.answer.token_times.last()?);
        let tokens = last.tokens.checked_sub(first.tokens).filter(|tokens| *tokens > 0)?;
        Some((last.at_ns.saturating_sub(first.at_ns) / u64::from(tokens)).max(1))
    }
}

/// A request that is being answered.
pub(super) struct Call {
    connection: Connection,
    reader: AnswerReader,
    seen: Exchange,
}

/// Sends one and reads all of its answer.
pub(super) async fn exchange(patient: &Patient, asked: &Asked) -> Exchange {
    let all = async {
        let mut call = Call::begin(patient, asked).await?;
        loop {
            match call.more().await {
                Ok(true) => {}
                Ok(false) => return Ok(call.finish(None)),
                Err(why) => return Ok(call.finish(Some(why))),
            }
        }
    };
    let limit = patient.limits.answer;
    let late = |_| Err(format!("no whole answer in {:.0} s", limit.as_secs_f64()));
    let seen: Result<Exchange, String> = tokio::time::timeout(limit, all).await.unwrap_or_else(late);
    seen.unwrap_or_else(|why| Exchange { error: Some(why), ..Exchange::default() })
}

impl Call {
    /// Sends it and waits for the head of its answer; the error is in words.
    pub(super) async fn begin(patient: &Patient, asked: &Asked) -> Result<Self, String> {
        let body = asked.body();
        let question = Question {
            method: Method::POST,
            headers: HeaderMap::new(),
            body: body.into(),
            ..Question::get(PATH, patient.limits.answer)
        };
        let mut connection = patient.worker.connect(&patient.clock).await.map_err(|error| error.message)?;
        let head = ask::head(&patient.worker, &question, &http::Uri::from_static(PATH));
        let now = patient.clock.now();
        let request = Outgoing::new([head.as_bytes(), &question.body]);
        let answer = connection.send(request, false).await.map_err(|error| error.error.to_string())?;
        let (coding, kind) = (connection.field("content-encoding"), connection.field("content-type"));
        let reader = AnswerReader::by_head(Endpoint::Generate, answer.status, coding, kind, false);
        let text = |name| connection.field(name).and_then(|value| std::str::from_utf8(value).ok());
        let seen = Exchange {
            status: Some(answer.status),
            simulated: connection.field(SIMULATED).is_some(),
            router_headers: ROUTER_HEADERS
                .into_iter()
                .filter(|name| connection.field(name).is_some())
                .collect(),
            worker_url: text(headers::WORKER_URL).map(str::to_owned),
            record: RequestRecord {
                arrival_mono_ns: now.mono_ns,
                arrival_unix_ns: now.unix_ns,
                // Nothing stands between the two here.
                router_send_ns: Some(0),
                stream: asked.stream,
                ..RequestRecord::default()
            },
            ..Exchange::default()
        };
        Ok(Self { connection, reader: reader.with_token_times(), seen })
    }

    /// Waits for more of the answer; false at its end.
    pub(super) async fn more(&mut self) -> Result<bool, String> {
        let reader = &mut self.reader;
        let more = self.connection.read_data(|data, at_ns| reader.push(data, at_ns)).await;
        more.map_err(|error| error.to_string())
    }

    /// A token has come.
    pub(super) fn has_begun(&self) -> bool {
        self.reader.first_token_ns().is_some()
    }

    /// What there is of it; the connection closes if there was more to come.
    pub(super) fn finish(self, broken: Option<String>) -> Exchange {
        let Self { connection, reader, mut seen } = self;
        let answer = reader.finish(broken.is_none());
        let sent_ns = seen.record.arrival_mono_ns;
        let since = |at_ns: u64| at_ns.saturating_sub(sent_ns);
        let told = answer.error.as_ref().map(|error| match error.message.as_str() {
            "" => error.public(),
            message => format!("{}: {message}", error.public()),
        });
        seen.error = broken.or(told);
        let record = &mut seen.record;
        record.first_byte_ns = connection.first_read_ns().map(since);
        record.first_event_ns = answer.first_event_ns.map(since);
        record.first_token_ns = answer.first_token_ns.map(since);
        record.last_byte_ns = Some(since(connection.last_read_ns()));
        record.sse_events = answer.events;
        record.server = answer.stamps;
        record.outcome = if seen.error.is_none() { Outcome::Done } else { Outcome::WorkerError };
        seen.answer = answer;
        seen
    }
}
