//! What a run is asked to do, as values that cannot be wrong.
//!
//! Rule: nothing here is read from the environment or the command line; `cli::bench` does that. Deliberately not here:
//! output files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::body::{Backend, RequestOptions};
use super::dataset::Dataset;
use super::faults::Faults;
use super::schedule::{Arrivals, Pace, Rate, Schedule};
use super::target::Target;
use crate::config::access::TlsConfig;

/// Requests of a run at most; asked for where the data set alone says how many there are.
pub const MOST_REQUESTS: usize = 10_000_000;

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

/// A metric of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnColumn {
    /// Its name, unlike any of the CSV's.
    pub name: String,
    /// Over the cells of a row.
    pub expression: String,
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
    /// When requests are due.
    pub arrivals: Arrivals,
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
    /// Who signs the certificates of https targets, and what is shown to them.
    pub tls: TlsConfig,
    /// Longest time from connecting to the last byte.
    pub request_timeout: Duration,
    /// Longest silence inside an answer, from its first byte on.
    pub idle_timeout: Duration,
    /// Requests before the run, in no figure.
    pub warmup_requests: usize,
    /// `POST /flush_cache` before the run.
    pub flush_cache: bool,
    /// The router's trace.
    pub router_trace: Option<TraceSource>,
    /// Longest wait for the router's last records.
    pub trace_wait: Duration,
    /// What goes wrong meanwhile.
    pub faults: Option<Faults>,
    /// Metrics of the user's own. They change nothing of the load.
    pub columns: Vec<OwnColumn>,
    /// What else a run is known by, each as it was given: who serves, who fails, how rows are judged. Changes nothing here.
    pub besides: BTreeMap<&'static str, String>,
    /// How it was asked for, secrets masked; empty where it did not come from a command line. Changes nothing.
    pub arguments: Vec<String>,
}

impl LoadConfig {
    /// `bench_serving`'s defaults, save the data set, which it would download.
    pub fn new(target: Target, dataset: Dataset) -> Self {
        Self {
            target,
            backend: Backend::Native,
            dataset,
            num_prompts: 1000,
            arrivals: Rate::AllAtOnce.into(),
            max_concurrency: None,
            seed: 1,
            model: None,
            request: RequestOptions::default(),
            headers: HeaderMap::new(),
            tls: TlsConfig::default(),
            request_timeout: Duration::from_secs(1800),
            idle_timeout: Duration::from_secs(600),
            warmup_requests: 1,
            flush_cache: false,
            router_trace: None,
            trace_wait: Duration::from_secs(5),
            faults: None,
            columns: Vec::new(),
            besides: BTreeMap::new(),
            arguments: Vec::new(),
        }
    }

    /// Requests, or beginnings of sessions, that are due in the time of a run at a rate or in stages, however many the data set has.
    /// `None` where the data set, or its times, say how long the run is.
    pub fn starts_due(&self) -> Option<usize> {
        self.arrivals.time_flag()?;
        Some(Schedule::new(&self.arrivals, MOST_REQUESTS, self.seed).at_ns.len())
    }

    /// For the report. Header values are left out: they may be secrets.
    pub fn to_json(&self) -> Value {
        let trace = self.router_trace.as_ref().map(|source| match source {
            TraceSource::File(path) => path.display().to_string(),
            TraceSource::Url(url) => url.to_string(),
        });
        let mut asked = json!({
            "backend": self.backend.name(),
            "base_url": self.target.to_string(),
            "dataset_name": self.dataset.name(),
            "dataset_options": format!("{:?}", self.dataset),
            "num_prompts": self.num_prompts,
            "request_rate": self.arrivals.mean_per_s().map_or_else(|| json!("inf"), |r| json!(r)),
            "arrivals": self.arrivals.shape_text(),
            "schedule_speedup": match &self.arrivals.pace {
                Pace::Trace { pace, .. } => Some(pace.speedup),
                _ => None,
            },
            "stages": match &self.arrivals.pace {
                Pace::Stages(stages) => Some(stages.to_string()),
                Pace::Rate(_) | Pace::Saved(_) | Pace::Trace { .. } => None,
            },
            "duration": self.arrivals.duration.map(|d| d.as_secs_f64()),
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
            "idle_timeout_secs": self.idle_timeout.as_secs_f64(),
            "warmup_requests": self.warmup_requests,
            "flush_cache": self.flush_cache,
            "router_trace": trace,
            "faults": self.faults.as_ref().map(|faults| faults.plan.to_text()),
        });
        // Only what was given: a run without them is known by what it was before there were these.
        for (name, text) in &self.besides {
            asked[*name] = json!(text);
        }
        if !self.columns.is_empty() {
            let columns = self.columns.iter().map(|own| format!("{}={}", own.name, own.expression));
            asked["column"] = columns.collect();
        }
        asked
    }
}

/// Headers of every request: `NAME=VALUE` as given, and the key as a bearer token.
///
/// # Errors
/// One cannot be a header, or is bench's own.
pub fn request_headers(given: &[String], api_key: Option<&str>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if let Some(key) = api_key.filter(|k| !k.is_empty()) {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| "$OPENAI_API_KEY cannot be a header value".to_owned())?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
    }
    for pair in given {
        let parsed = pair.split_once('=').and_then(|(name, value)| {
            Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| format!("--header: expected NAME=VALUE, got {pair}"))?;
        if matches!(
            name.as_str(),
            "x-request-id"
                | "x-milepost-phase"
                | "content-length"
                | "transfer-encoding"
                | "host"
                | "content-type"
        ) {
            return Err(format!("--header: {name} is set by bench itself"));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_the_key_stays_out_of_the_report() {
        let given = ["X-Team=blue".to_owned(), "x-note = a=b".to_owned()];
        let headers = request_headers(&given, Some("secret")).unwrap();
        assert_eq!(headers["x-team"], "blue");
        assert_eq!(headers["x-note"], "a=b");
        assert_eq!(headers["authorization"], "Bearer secret");
        let target = Target::parse("http://a:1").unwrap();
        let dataset = Dataset::Random(crate::load::dataset::RandomOptions::default());
        let config = LoadConfig { headers, ..LoadConfig::new(target, dataset) };
        assert!(!config.to_json().to_string().contains("secret"));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn bad_headers_are_named() {
        for bad in ["x", "a b=c", "x-request-id=1", "Content-Length=3", "Transfer-Encoding=chunked"] {
            assert!(request_headers(&[bad.to_owned()], None).unwrap_err().contains("--header"), "{bad}");
        }
    }
}
