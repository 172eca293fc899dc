//! A router without sockets: its shared state, made of the same parts, with a fleet that is never connected to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use milepost::admin::metrics::Metrics;
use milepost::clock::Clock;
use milepost::config::RouteConfig;
use milepost::config::worker_url::WorkerUrl;
use milepost::fleet::Fleet;
use milepost::fleet::breaker::Verdict;
use milepost::fleet::health::HealthConfig;
use milepost::fleet::policies::Wanted;
use milepost::fleet::worker::Worker;
use milepost::net::{Connector, PipeNet};
use milepost::proxy::Shared;
use milepost::proxy::asked::Asked;
use milepost::proxy::budget::Budget;
use milepost::proxy::cors::Cors;
use milepost::proxy::cut::Cut;
use milepost::proxy::fallback::Fallbacks;
use milepost::proxy::headers::ClientHeaders;
use milepost::proxy::journey::Journey;
use milepost::trace::record::{Outcome, Record};
use milepost::trace::sink::Sink;
use milepost::wire::answer::Answer;
use milepost_policies::{Event, PolicyConfig, PromptHashes, RequestView};

/// Different prompts, met again and again after as many requests.
const PROMPTS: usize = 4_096;
/// Records that the sink holds until it is emptied.
const SINK_RECORDS: usize = 1 << 20;

/// The state behind requests.
pub struct Stage {
    /// What requests share.
    pub shared: Arc<Shared>,
    asked: Asked,
    client: Arc<str>,
    prompts: Vec<PromptHashes>,
    answer: Answer,
    // The one that joined first.
    worker: Arc<Worker>,
    // Tasks of the fleet, which never run.
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// With a policy, so many workers, and records that are kept or not.
    pub fn new(policy: &str, workers: usize, traced: bool) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
        let entered = runtime.enter();
        let clock = Clock::system();
        let sink = Arc::new(if traced { Sink::bounded(SINK_RECORDS) } else { Sink::off() });
        let config = RouteConfig { policy: policy.to_owned(), ..RouteConfig::default() };
        let built = milepost_policies::build(policy, &PolicyConfig::default()).map_err(|e| e.to_string())?;
        let health = HealthConfig { enabled: false, ..HealthConfig::default() };
        let pipes = Connector::Pipes(PipeNet::default());
        let fleet = Fleet::new(clock.clone(), pipes, health, built, Arc::clone(&sink));
        for n in 0..workers {
            let url = format!("http://10.0.{}.{}:30000", n / 250, n % 250 + 1);
            let url = WorkerUrl::parse(&url).map_err(|e| e.to_string())?;
            fleet.add(url).map_err(|why| format!("{why:?}"))?;
        }
        let worker = fleet.workers().into_iter().next().ok_or("a fleet of nobody")?;
        drop(entered);
        let shared = Arc::new(Shared {
            budget: Budget::new(config.max_buffered_request_bytes),
            answers: Budget::new(config.max_held_answer_bytes),
            instance: "0123456789abcd".to_owned(),
            clock,
            listen: None,
            tls: None,
            fleet,
            capture: None,
            spans: None,
            live: milepost::admin::live::Live::default(),
            sink,
            metrics: Metrics::with_buckets(&[]),
            fallbacks: Fallbacks::default(),
            experiment: None,
            limit: None,
            cors: Cors::new(&[]).map_err(|e| e.to_string())?,
            requests: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            cut: Cut::default(),
            config,
        });
        let prompts = (0..PROMPTS).map(|n| PromptHashes::of(prompt(n, 120).as_bytes())).collect();
        let answer = super::steps::answer();
        let asked = Asked::new(http::Method::POST, "/generate");
        Ok(Self {
            shared,
            asked,
            client: "127.0.0.1:50000".into(),
            prompts,
            answer,
            worker,
            _runtime: runtime,
        })
    }

    /// Decision, lease, the worker's breaker and the policy told of the end.
    pub fn decide(&self, n: usize) {
        let fleet = &self.shared.fleet;
        if let Some(mut chosen) = fleet.choose(Wanted::default(), &self.view(n), &[]) {
            fleet.settle(&mut chosen.lease, Verdict::Success);
            fleet.observe(chosen.lease.worker(), &self.ended(n, chosen.lease.worker().id));
        }
    }

    /// Telling the policies of one event.
    pub fn observe(&self, n: usize) {
        self.shared.fleet.observe(&self.worker, &self.ended(n, self.worker.id));
    }

    /// A request's state from its arrival to its send stamp.
    pub fn begin(&self, n: usize) -> Journey {
        let known = ClientHeaders::default();
        let mut journey = Journey::begin(&self.shared, &self.asked, &known, Some(Arc::clone(&self.client)));
        journey.note(|r| {
            r.body_look = "json".into();
            r.max_new_tokens = Some(16);
            r.prompts = Some(1);
            r.prompt_bytes = Some(120);
            r.request_body_bytes = 200;
            r.body_read_ns = Some(2_000);
        });
        if let Some(chosen) = self.shared.fleet.choose(Wanted::default(), &self.view(n), &[]) {
            journey.choose(chosen);
        }
        journey.sending(true);
        journey
    }

    /// A whole request without its sockets: state, decision, record.
    pub fn request(&self, n: usize) {
        let mut journey = self.begin(n);
        journey.note(|r| {
            r.first_byte_ns = Some(300_000);
            r.head_ns = Some(300_500);
            r.status = Some(200);
            r.last_byte_ns = Some(301_000);
            r.reused_connection = true;
            r.response_body_bytes = 170;
        });
        journey.served(200);
        journey.take_answer(self.answer.clone());
        journey.end(Outcome::Done, None);
    }

    /// Records since the last call.
    pub fn drain(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.shared.sink.drain(&mut records);
        records
    }

    fn view(&self, n: usize) -> RequestView<'_> {
        let prompt = Some(&self.prompts[n % PROMPTS]);
        RequestView {
            seq: n as u64,
            attempts: 0,
            prompt,
            prompt_bytes: 120,
            max_new_tokens: Some(16),
            ..RequestView::default()
        }
    }

    fn ended(&self, n: usize, worker: milepost_policies::WorkerId) -> Event {
        Event::Ended {
            seq: n as u64,
            worker,
            ok: true,
            latency_us: 300,
            prompt_tokens: self.answer.tokens.prompt_tokens,
            completion_tokens: self.answer.tokens.completion_tokens,
            cached_tokens: self.answer.tokens.cached_tokens,
        }
    }
}

/// A prompt that no other number has.
pub fn prompt(n: usize, bytes: usize) -> String {
    let mut text = format!("{n:012} ");
    while text.len() < bytes {
        text.push_str("lorem ipsum ");
    }
    text.truncate(bytes);
    text
}
