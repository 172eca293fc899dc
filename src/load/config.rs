//! What a run is asked to do, as values that cannot be wrong.
//!
//! Rule: nothing here is read from the environment or the command line; `cli::bench` does that. Deliberately not here:
//! output files.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};

use super::body::{Backend, RequestOptions};
use super::dataset::Dataset;
use super::pacer::Pacing;
use super::schedule::Rate;
use super::target::Target;

/// Where the router's trace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceSource {
    /// A file that the router writes.
    File(PathBuf),
    /// An address that gives it as NDJSON.
    Url(Target),
}

impl TraceSource {
    /// A URL if it begins as one, else a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            Target::parse(text).map(Self::Url)
        } else {
            Ok(Self::File(PathBuf::from(text)))
        }
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Router or server.
    pub target: Target,
    /// Endpoint and shape of the requests.
    pub backend: Backend,
    /// What is sent.
    pub dataset: Dataset,
    /// How many requests, where the data set leaves it open.
    pub num_prompts: usize,
    /// Arrivals.
    pub rate: Rate,
    /// Most requests in flight; those beyond wait, and their waiting is in every latency from schedule.
    pub max_concurrency: Option<usize>,
    /// Seed of prompts and arrivals.
    pub seed: u64,
    /// Model name for the OpenAI endpoints; else the server's first.
    pub model: Option<String>,
    /// How to ask.
    pub request: RequestOptions,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Longest time from connecting to the last byte.
    pub request_timeout: Duration,
    /// Requests before the run, in no figure.
    pub warmup_requests: usize,
    /// `POST /flush_cache` before the run.
    pub flush_cache: bool,
    /// The router's trace.
    pub router_trace: Option<TraceSource>,
    /// What waits for the due times.
    pub pacing: Pacing,
}

impl LoadConfig {
    /// `bench_serving`'s defaults, save the data set, which it would download.
    pub fn new(target: Target, dataset: Dataset) -> Self {
        Self {
            target,
            backend: Backend::Native,
            dataset,
            num_prompts: 1000,
            rate: Rate::AllAtOnce,
            max_concurrency: None,
            seed: 1,
            model: None,
            request: RequestOptions::default(),
            headers: HeaderMap::new(),
            request_timeout: Duration::from_secs(1800),
            warmup_requests: 1,
            flush_cache: false,
            router_trace: None,
            pacing: Pacing::Thread,
        }
    }

    /// For the report. Header values are left out: they may be secrets.
    pub fn to_json(&self) -> Value {
        let trace = self.router_trace.as_ref().map(|source| match source {
            TraceSource::File(path) => path.display().to_string(),
            TraceSource::Url(url) => url.to_string(),
        });
        json!({
            "backend": self.backend.name(),
            "base_url": self.target.to_string(),
            "dataset_name": self.dataset.name(),
            "dataset_options": format!("{:?}", self.dataset),
            "num_prompts": self.num_prompts,
            "request_rate": self.rate.per_second().map_or_else(|| json!("inf"), |r| json!(r)),
            "max_concurrency": self.max_concurrency,
            "seed": self.seed,
            "model": self.model,
            "stream": self.request.stream,
            "ignore_eos": self.request.ignore_eos,
            "temperature": self.request.temperature,
            "top_p": self.request.top_p,
            "extra_request_body": self.request.extra,
            "headers": self.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(),
            "request_timeout_secs": self.request_timeout.as_secs_f64(),
            "warmup_requests": self.warmup_requests,
            "flush_cache": self.flush_cache,
            "router_trace": trace,
        })
    }
}
