//! A static batch over HTTP: one `/generate` with so many prompts of one length, alone on the server.
//!
//! Rule: caches are emptied before each, prompts are exact token ids that no other batch shares, and the connection is open
//! before the clock starts. HTTP, tokenizer manager and scheduler are inside every figure; SGLang's `bench_one_batch` measures
//! without them. Deliberately not here: figures made of the times, see `report::static_batch`.

mod steps;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri};
use serde_json::json;

use self::steps::Steps;
use super::body::lay_over;
use super::client::{Client, Outgoing};
use super::config::LoadConfig;
use super::dataset::{Content, Dataset, RandomOptions};
use super::failure::{Class, Failure};
use super::join::failure_of;
use super::probe::{self, ServerInfo, Speed};
use super::row::Gap;
use super::run::{LoadError, RunContext, connect};
use crate::wire::answer::Tokens;

/// Prompt tokens of one batch at most: a body of some 20 MB.
pub const MOST_TOKENS: u64 = 4 << 20;
/// Output tokens of a warm-up at most.
const WARM_UP_TOKENS: u64 = 16;

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Prompts.
    pub batch_size: u32,
    /// Tokens of each prompt.
    pub input_tokens: u64,
    /// Tokens of each answer.
    pub output_tokens: u64,
}

/// What was measured of one batch.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub case: Case,
    /// When it began, nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// From the first write to the first token of the last member.
    pub prefill_ns: u64,
    /// From the first write to the last byte.
    pub total_ns: u64,
    /// From one step of all members to the next.
    pub steps: Vec<Gap>,
    /// Members that ended before their length.
    pub early: usize,
    /// The server's counts, all members together.
    pub tokens: Tokens,
    /// What the server says of its own speed afterwards.
    pub speed: Speed,
    /// Why the caches could not be emptied before.
    pub not_flushed: Option<String>,
}

/// A server to which batches are sent.
pub struct StaticBatch {
    config: LoadConfig,
    context: RunContext,
    client: Arc<Client>,
    /// How it describes itself; only after [`Self::warm_up`].
    pub server: ServerInfo,
}

impl StaticBatch {
    /// Looks the target up. Of `config` counts who is asked and how, of its data set nothing.
    ///
    /// # Errors
    /// It cannot be looked up, or a header cannot be sent.
    pub async fn begin(config: LoadConfig, context: RunContext) -> Result<Self, LoadError> {
        let client = connect(&config, &context).await?;
        Ok(Self { config, context, client, server: ServerInfo::default() })
    }

    /// Sends a short batch like `case`, as often as was asked for, then asks the server what it is.
    ///
    /// # Errors
    /// A batch failed.
    pub async fn warm_up(&mut self, case: Case) -> Result<(), Failure> {
        let short = Case { output_tokens: case.output_tokens.min(WARM_UP_TOKENS), ..case };
        for _ in 0..self.config.warmup_requests {
            self.send(short, u64::MAX).await?;
        }
        // SGLang 0.4.9 does not answer before its first generation.
        self.server = probe::server(&self.client, &self.config.target, self.config.backend).await;
        Ok(())
    }

    /// Empties the caches and sends one batch; `number` makes its prompts other than those of every other batch.
    ///
    /// # Errors
    /// It failed, or its answer does not tell tokens of members.
    pub async fn measure(&self, case: Case, number: u64) -> Result<Measured, Failure> {
        let flushed = tokio::select! {
            biased;
            () = self.context.stop.wait() => return Err(Failure::new(Class::Interrupted, "ended by Ctrl-C")),
            flushed = probe::flush_cache(&self.client, &self.config.target) => flushed,
        };
        let measured = self.send(case, number).await?;
        let speed = probe::speed(&self.client, &self.config.target).await;
        Ok(Measured { speed, not_flushed: flushed.err(), ..measured })
    }

    async fn send(&self, case: Case, number: u64) -> Result<Measured, Failure> {
        let outgoing = self.outgoing(case, number).map_err(|e| Failure::new(Class::NotSent, e))?;
        let mut steps = Steps::new(case.batch_size, case.output_tokens);
        self.client.connections.tend(1).await;
        let started_unix_ns = self.context.clock.now().unix_ns;
        let mut watch = |piece: &[u8], at_ns| steps.push(piece, at_ns);
        let seen = self.client.exchange_watched(&outgoing, self.context.stop.wait(), &mut watch).await;
        if let Some(failure) = failure_of(&seen) {
            return Err(failure);
        }
        let begun_ns = seen.stamps.write_begun_ns.unwrap_or_default();
        let first_ns = steps.first_ns().filter(|_| begun_ns > 0);
        let uncounted = || Failure::new(Class::Malformed, "no stream that counts the tokens of each member");
        let answer = seen.answer.unwrap_or_default();
        Ok(Measured {
            case,
            started_unix_ns,
            prefill_ns: first_ns.ok_or_else(uncounted)?.saturating_sub(begun_ns),
            total_ns: seen.stamps.last_byte_ns.unwrap_or_default().saturating_sub(begun_ns),
            steps: steps.gaps(),
            early: steps.early(),
            tokens: answer.tokens,
            speed: Speed::default(),
            not_flushed: None,
        })
    }

    fn outgoing(&self, case: Case, number: u64) -> Result<Outgoing, String> {
        let LoadConfig { target, backend, request, seed, .. } = &self.config;
        let random = RandomOptions {
            input_tokens: case.input_tokens,
            output_tokens: case.output_tokens,
            range_ratio: 1.0,
        };
        let seed = seed.wrapping_add(number);
        let loaded = Dataset::Random(random).load(case.batch_size as usize, seed, true);
        let prompts = loaded.map_err(|e| e.to_string())?.prompts;
        let ids: Vec<Vec<u32>> = prompts
            .iter()
            .filter_map(|prompt| match &prompt.content {
                Content::Drawn(drawn) => Some(drawn.token_ids()),
                _ => None,
            })
            .collect();
        let mut body = json!({
            "input_ids": ids,
            "sampling_params": {
                "temperature": request.temperature, "max_new_tokens": case.output_tokens, "ignore_eos": true,
            },
            "stream": true,
        });
        if let Some(top_p) = request.top_p {
            body["sampling_params"]["top_p"] = json!(top_p);
        }
        lay_over(&mut body, &request.extra);
        let path = target.path(backend.path(true));
        let path: Uri = path.parse().map_err(|e| format!("path {path}: {e}"))?;
        let id = format!("mp-{:x}-batch-{number:x}", self.context.clock.now().unix_ns / 1000);
        let id = HeaderValue::from_str(&id).map_err(|e| e.to_string())?;
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-request-id"), id)]);
        let body = body.to_string().into();
        let endpoint = backend.endpoint();
        Ok(Outgoing { path, endpoint, multiple: true, body, keep_answer: false, headers })
    }
}
