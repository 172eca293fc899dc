//! Tests of the ranks of a server over pipes and virtual time: who becomes a worker when, and who is healthy with whom.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use milepost_policies::PolicyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::FleetConfig;
use super::super::health::HealthConfig;
use super::*;
use crate::clock::Clock;
use crate::config::worker_url::WorkerUrl;
use crate::net::{Connector, Io, PipeNet};
use crate::trace::sink::Sink;

/// A server that can be away, and may come back with another number of ranks.
#[derive(Default)]
struct Server {
    ranks: AtomicU32,
    up: AtomicBool,
    checks: AtomicU32,
}

impl Server {
    async fn answer(&self, mut io: Io) {
        let mut head = vec![0; 4096];
        let read = io.read(&mut head).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        let is_check = head.starts_with("GET /health ");
        self.checks.fetch_add(u32::from(is_check), Ordering::Relaxed);
        let ranks = self.ranks.load(Ordering::Relaxed);
        let body =
            if is_check { String::new() } else { format!("{{\"version\":\"1\",\"dp_size\":{ranks}}}") };
        let status = if self.up.load(Ordering::Relaxed) { "200 OK" } else { "503 Away" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = io.write_all(answer.as_bytes()).await;
    }
}

/// A fleet with one server at port 1, which has not answered yet.
fn fleet_before(server: &Arc<Server>) -> Arc<Fleet> {
    let net = PipeNet::default();
    let mut listener = net.listen(1);
    let serving = Arc::clone(server);
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let server = Arc::clone(&serving);
            tokio::spawn(async move { server.answer(io).await });
        }
    });
    let policy = milepost_policies::build("round_robin", &PolicyConfig::default()).unwrap();
    let config = FleetConfig { dp_aware: true, max_workers: 8, ..HealthConfig::default().into() };
    let fleet = Fleet::new(Clock::system(), Connector::Pipes(net), config, policy, Arc::new(Sink::off()));
    fleet.add(WorkerUrl::parse("http://127.0.0.1:1").unwrap()).unwrap();
    fleet
}

/// URL without its beginning, and health, of each worker.
fn workers(fleet: &Fleet) -> Vec<(String, bool)> {
    let short = |w: &Arc<Worker>| w.url.as_str()["http://127.0.0.1:".len()..].to_owned();
    fleet.workers().iter().map(|w| (short(w), w.is_healthy())).collect()
}

fn are(urls: &[&str], healthy: bool) -> Vec<(String, bool)> {
    urls.iter().map(|url| ((*url).to_owned(), healthy)).collect()
}

/// The time of this many checks at the default interval, and a little.
async fn checks(count: u32) {
    tokio::time::sleep(HealthConfig::default().interval * count + Duration::from_secs(6)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_is_one_unhealthy_worker_until_it_has_said_how_many_ranks_it_has() {
    let server = Arc::new(Server { ranks: AtomicU32::new(3), ..Server::default() });
    let fleet = fleet_before(&server);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(workers(&fleet), are(&["1"], false));
    server.up.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(workers(&fleet), are(&["1@0", "1@1", "1@2"], true));
    let ids: Vec<u32> = fleet.workers().iter().map(|w| w.id.0).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(fleet.watchers().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_ranks_of_a_server_share_its_checks_and_its_health_even_without_the_first() {
    let server = Arc::new(Server { ranks: AtomicU32::new(4), up: true.into(), ..Server::default() });
    let fleet = fleet_before(&server);
    checks(0).await;
    let before = server.checks.load(Ordering::Relaxed);
    checks(2).await;
    assert_eq!(server.checks.load(Ordering::Relaxed), before + 2, "one check for all");
    let first = fleet.workers().remove(0);
    assert!(fleet.remove(&first));
    server.up.store(false, Ordering::Relaxed);
    checks(3).await;
    assert_eq!(workers(&fleet), are(&["1@1", "1@2", "1@3"], false));
    server.up.store(true, Ordering::Relaxed);
    checks(2).await;
    assert_eq!(workers(&fleet), are(&["1@1", "1@2", "1@3"], true), "who was removed stays so");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_with_other_ranks_gets_as_many_workers() {
    let server = Arc::new(Server { ranks: AtomicU32::new(4), up: true.into(), ..Server::default() });
    let fleet = fleet_before(&server);
    checks(0).await;
    assert_eq!(fleet.workers().len(), 4);
    for (ranks, urls) in [(2, vec!["1@0", "1@1"]), (1, vec!["1"]), (3, vec!["1@0", "1@1", "1@2"])] {
        // One failed check is enough to look again; it makes nobody unhealthy.
        server.up.store(false, Ordering::Relaxed);
        checks(1).await;
        server.ranks.store(ranks, Ordering::Relaxed);
        server.up.store(true, Ordering::Relaxed);
        checks(1).await;
        assert_eq!(workers(&fleet), are(&urls, true), "{ranks}");
        assert_eq!(fleet.watchers().len(), urls.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_nobody_can_have_is_not_believed_and_one_without_room_not_followed() {
    for ranks in [u32::MAX, 9] {
        let server = Arc::new(Server { ranks: AtomicU32::new(ranks), up: true.into(), ..Server::default() });
        let fleet = fleet_before(&server);
        checks(0).await;
        assert_eq!(workers(&fleet), are(&["1"], true));
    }
}
