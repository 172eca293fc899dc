//! What a case works with: one router, its scripted workers, and a client.
//!
//! Rule: what a case says it saw holds no port and no id, so that it is the same in every run: workers are `W0`, `W1`.
//! Deliberately not here: expectations (`table`).

use std::cell::OnceCell;

use crate::client::{Answer, Exchange, get_with, post};
use crate::process::{Process, Subject, until};
use crate::table::Group;
use crate::worker::Worker;

/// A prompt for /generate that any router and worker take.
pub const PROMPT: &str = r#"{"text":"one two three","sampling_params":{"max_new_tokens":1}}"#;

/// The set-up of a group.
pub struct Stage {
    /// Which router.
    pub subject: Subject,
    /// The group's workers.
    pub workers: Vec<Worker>,
    flags: Vec<String>,
    router: OnceCell<Process>,
}

impl Stage {
    /// Starts the workers of a group; the router is started by the first case that needs it.
    pub fn new(subject: Subject, group: &Group) -> Self {
        Self::with(subject, group.flags, (0..group.workers).map(|_| Worker::start()).collect())
    }

    /// A set-up of a case's own: flags separated by white space, and workers that are there.
    pub fn with(subject: Subject, flags: &str, workers: Vec<Worker>) -> Self {
        let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        if !workers.is_empty() {
            flags.push("--worker-urls".to_owned());
            flags.extend(workers.iter().map(|w| w.url.clone()));
        }
        Self { subject, workers, flags, router: OnceCell::new() }
    }

    /// The router, up and with all its workers.
    pub fn router(&self) -> &Process {
        self.router.get_or_init(|| {
            let router = Process::start(self.subject, &self.flags);
            up(&router, self.workers.len());
            router
        })
    }

    /// Asks once and reads the whole answer.
    pub fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        self.begin(request).finish()
    }

    /// Asks and leaves the reading to the case.
    pub fn begin(&self, request: impl AsRef<[u8]>) -> Exchange {
        Exchange::begin(self.router().port.address(), request)
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send(get_with(path, ""))
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.send(post(path, body))
    }

    /// A small /generate.
    pub fn generate(&self) -> Answer {
        self.post("/generate", PROMPT)
    }

    /// How many requests of clients each worker got, `1+0`.
    pub fn counts(&self) -> String {
        let counts: Vec<String> = self.workers.iter().map(|w| w.got().len().to_string()).collect();
        counts.join("+")
    }

    /// The only request that any worker got.
    pub fn only(&self) -> crate::worker::Got {
        let mut all: Vec<_> = self.workers.iter().flat_map(Worker::got).collect();
        assert_eq!(all.len(), 1, "one request at the workers: {all:?}");
        all.remove(0)
    }

    /// Text with the workers' URLs replaced by `W0`, `W1`.
    pub fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (i, worker) in self.workers.iter().enumerate() {
            text = text.replace(&worker.url, &format!("W{i}"));
        }
        text
    }

    /// Before each case: workers forget, and answer as engines do.
    pub fn clear(&self) {
        self.workers.iter().for_each(Worker::clear);
    }

    /// What the router said, for a case that could not go on.
    pub fn said(&self) -> String {
        self.router.get().map(Process::said).unwrap_or_default()
    }
}

/// Waits until a router serves and says that so many workers are healthy.
pub fn up(router: &Process, healthy: usize) {
    let address = router.port.address();
    until("the router serves", || {
        if let Some(code) = router.ended() {
            panic!("the router ended with {code}: {}", router.said());
        }
        std::net::TcpStream::connect(address).ok()
    });
    until("its workers are healthy", || {
        let ready = Exchange::begin(address, get_with("/readiness", "")).finish().json();
        (healthy == 0 || ready["healthy_workers"] == healthy).then_some(())
    });
}
