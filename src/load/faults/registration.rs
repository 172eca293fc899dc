//! Makes a router know the workers that a run has started: `POST /workers`, as sglang-router 0.2.2 to 0.3.2 and milepost take it.
//!
//! Rule: returns when the router calls every one of them healthy, so that the load meets all of them; takes them away again at
//! the end. Deliberately not here: the processes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::load::client::Client;
use crate::load::connections::Connections;
use crate::load::progress::Stop;
use crate::load::target::Target;
use crate::net::dialer::Dialer;

/// Longest wait for one answer of the router.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest wait until all are healthy; a health check of a real server takes a second and more.
const HEALTHY: Duration = Duration::from_secs(60);
/// Why it is not done where all is to end.
pub(super) const STOPPED: &str = "--start-workers: interrupted";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A client of its own for a few questions.
pub(super) async fn client_of(
    target: &Target,
    dialer: impl Into<Dialer>,
    clock: &Clock,
    headers: &HeaderMap,
    limit: Duration,
) -> Result<Client, String> {
    let connections = Connections::to(target, dialer, clock.clone()).await;
    let connections = connections.map_err(|e| format!("{target}: cannot look up {}: {e}", target.host))?;
    Client::new(connections, clock.clone(), &target.host_port(), headers, limit)
}

/// Workers that a router was told of.
pub(super) struct Registration {
    target: Target,
    client: Client,
    urls: Vec<String>,
}

impl Registration {
    /// Tells the router of them and waits until it has found all of them healthy, or all is to end.
    pub(super) async fn begin(
        target: &Target,
        client: Client,
        urls: Vec<String>,
        stop: &Stop,
    ) -> Result<Self, String> {
        let known = Self { target: target.clone(), client, urls };
        let late = |_| {
            let seconds = HEALTHY.as_secs();
            format!("--start-workers: {target} has not found all of them healthy in {seconds} s")
        };
        let found = tokio::time::timeout(HEALTHY, known.tell_and_wait(stop))
            .await
            .map_err(late)
            .and_then(|told| told);
        if let Err(why) = found {
            // Why it began is told, not why it could not be undone.
            let _ = known.end().await;
            return Err(why);
        }
        Ok(known)
    }

    async fn tell_and_wait(&self, stop: &Stop) -> Result<(), String> {
        for url in &self.urls {
            // Not in the middle of a question: a router that is not heard to its end may take a worker after it was to forget it.
            if stop.is_set() {
                return Err(STOPPED.to_owned());
            }
            let body = Bytes::from(json!({ "url": url }).to_string());
            let (status, _) = self.ask(Method::POST, "/workers", Some(body)).await?;
            if !matches!(status, 200..=202) {
                return Err(format!(
                    "--start-workers: {} answered {status} to POST /workers; expected a router that takes workers at run time, \
                     such as `milepost route` without --worker-urls",
                    self.target
                ));
            }
        }
        while self.unhealthy().await? > 0 {
            tokio::select! {
                biased;
                () = stop.wait() => return Err(STOPPED.to_owned()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    /// Takes them away again; one that the router does not know any more is as good as gone.
    pub(super) async fn end(&self) -> Result<(), String> {
        for worker in self.list().await? {
            let ours = worker["url"].as_str().is_some_and(|url| self.is_ours(url));
            if let (true, Some(id)) = (ours, worker["id"].as_str()) {
                self.ask(Method::DELETE, &format!("/workers/{id}"), None).await?;
            }
        }
        Ok(())
    }

    fn is_ours(&self, url: &str) -> bool {
        self.urls.iter().any(|own| own.trim_end_matches('/') == url.trim_end_matches('/'))
    }

    async fn unhealthy(&self) -> Result<usize, String> {
        let healthy = self.list().await?;
        let healthy = healthy.iter().filter(|worker| {
            worker["is_healthy"] == true && worker["url"].as_str().is_some_and(|url| self.is_ours(url))
        });
        Ok(self.urls.len().saturating_sub(healthy.count()))
    }

    async fn list(&self) -> Result<Vec<Value>, String> {
        let (_, answer) = self.ask(Method::GET, "/workers", None).await?;
        match answer["workers"].as_array() {
            Some(workers) => Ok(workers.clone()),
            None => {
                Err(format!("--start-workers: {} does not list its workers at GET /workers", self.target))
            }
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<(u16, Value), String> {
        let path = self.target.path(path);
        let answer = self.client.simple_with(method, &path, body, LIMIT).await;
        let answer = answer.map_err(|e| format!("--start-workers: {}: {e}", self.target))?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }
}
