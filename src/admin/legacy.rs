//! `/add_worker`, `/remove_worker` and `/list_workers`, as in sglang-router 0.1.x to 0.2.1.
//!
//! Rule: a launch script of that time keeps working, so the worker is named in the query, the answers are text, and
//! `/add_worker` answers when the worker can be used. But it waits for one health check's time at most, where 0.1.x waited for
//! minutes: after that the worker is in the fleet and gets requests once it answers. Deliberately not here: anything that
//! `/workers` does better.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use serde_json::json;

use super::errand::Errand;
use super::percent;
use super::workers::said::Unfit;
use super::workers::{self, CannotAdd};
use super::{json as reply, text};
use crate::config::worker_url::WorkerUrl;
use crate::fleet::worker::Worker;
use crate::proxy::body::AnswerBody;

/// Pause between two looks whether a new worker has answered; a first health check takes about as long.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// `/add_worker?url=`.
pub async fn add(errand: &Errand<'_>) -> Response<AnswerBody> {
    let url = match url(&errand.query) {
        Ok(url) => url,
        Err(reason) => return text(400, reason),
    };
    let patience = errand.shared.fleet.health_config().timeout.min(errand.time_left());
    match workers::add(errand.shared, url.clone().into()) {
        Ok(worker) if is_up_in(&worker, patience).await => {
            text(200, format!("Successfully added worker: {url}"))
        }
        Ok(_) => {
            text(200, format!("Successfully added worker: {url}; it has not answered a health check yet"))
        }
        Err(CannotAdd::AlreadyThere) => text(400, format!("Worker {url} already exists")),
        Err(CannotAdd::Unfit(Unfit::Full { max_workers })) => {
            text(503, format!("there are {max_workers} workers, as many as there may be; remove one first"))
        }
        Err(CannotAdd::Unfit(Unfit::Refused(reason))) => text(400, reason),
        Err(CannotAdd::Unfit(_)) => text(400, "the worker cannot be added"),
    }
}

/// `/remove_worker?url=`. One that is not there is as good as removed, as it was in 0.1.x.
pub fn remove(errand: &Errand<'_>) -> Response<AnswerBody> {
    let url = match url(&errand.query) {
        Ok(url) => url,
        Err(reason) => return text(400, reason),
    };
    let fleet = &errand.shared.fleet;
    // Or the ranks that it has become.
    let is_meant = |worker: &&Arc<Worker>| worker.url == url || worker.added_as == url;
    match fleet.workers().iter().filter(is_meant).filter(|worker| fleet.remove(worker)).count() {
        0 => text(200, format!("Worker {url} was not there")),
        _ => text(200, format!("Successfully removed worker: {url}")),
    }
}

/// `/list_workers`: those that have answered, as `GET /workers` lists them.
pub fn list(errand: &Errand<'_>) -> Response<AnswerBody> {
    let mut workers = errand.shared.fleet.workers();
    workers.retain(|worker| worker.is_reached());
    let urls: Vec<&str> = workers.iter().map(|worker| worker.url.as_str()).collect();
    reply(200, &json!({"urls": urls}))
}

async fn is_up_in(worker: &Worker, limit: Duration) -> bool {
    let up = async {
        while !worker.is_reached() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(limit, up).await.is_ok()
}

/// The `url` of a query; the error is for the client.
fn url(query: &str) -> Result<WorkerUrl, String> {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("url="));
    let given = given.ok_or("name the worker in the query: ?url=http://host:port")?;
    let text = percent::decoded(&given.replace('+', " "))
        .ok_or("url: a percent sign is not followed by two hexadecimal digits")?;
    WorkerUrl::parse(&text).map_err(|error| format!("url: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_encoded_or_not() {
        let read = |query: &str| url(query).map(|url| url.as_str().to_owned());
        let plain = Ok("http://a:8000".to_owned());
        assert_eq!(read("url=http://a:8000"), plain);
        assert_eq!(read("x=1&url=http%3A%2F%2Fa%3a8000%2F&y"), plain);
        assert!(read("").unwrap_err().contains("?url="));
        assert!(read("curl=http://a:1").unwrap_err().contains("?url="));
        for bad in ["url=http%3", "url=%zz", "url=%ff", "url=%"] {
            assert!(read(bad).unwrap_err().starts_with("url: a percent sign"), "{bad}");
        }
        assert!(read("url=a+b").unwrap_err().contains("a b"));
        assert!(read("url=a%20b").unwrap_err().starts_with("url: expected http://host:port"));
    }
}
