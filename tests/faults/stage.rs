//! What a row plays on: a router, its workers and its clients, over pipes in virtual time or over sockets.
//!
//! Rule: after each row everything that the router held is back: leases, requests in flight, places, memory, idle and clients'
//! connections, tasks; and there is one record for each request. Deliberately not here: expectations (`table`).

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::{RouteConfig, worker_urls};
use milepost::net::{Connector, Listener, PipeNet};
use milepost::proxy::Shared;
use milepost::proxy::serve::Router;
use milepost_policies::{Policy, PolicyConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::books;
use crate::client::{Answer, Client};
use crate::door::{Door, Net};
use crate::events::{AT_ONCE, Events};
use crate::table::{Play, Seen};
use crate::told;
use crate::worker::{Got, Reads, Step, Worker};

/// Above every limit of what may be idle, so that nothing is left after it.
const QUIET: Duration = Duration::from_secs(10);

const ROUTER_PORT: u16 = 30_000;
const METRICS_PORT: u16 = 30_001;

/// A router that runs.
struct Running {
    shared: Arc<Shared>,
    at: [SocketAddr; 2],
    trace: PathBuf,
    stop: watch::Sender<bool>,
    task: RefCell<Option<JoinHandle<()>>>,
}

/// The set-up of a row.
pub struct Stage {
    net: Net,
    events: Arc<Events>,
    workers: RefCell<Vec<Worker>>,
    router: OnceCell<Running>,
    under_load: Cell<bool>,
}

impl Stage {
    /// Plays a row on one thread, and looks at what is left.
    pub fn play(virtual_time: bool, play: Play) -> Seen {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(virtual_time)
            .build()
            .unwrap();
        runtime.block_on(async {
            let events = Arc::new(Events::begin(virtual_time));
            let net = if virtual_time { Net::Pipes(PipeNet::default()) } else { Net::Sockets };
            let stage = Self {
                net,
                events,
                workers: RefCell::default(),
                router: OnceCell::new(),
                under_load: Cell::new(false),
            };
            let client = play(&stage).await;
            let (record, upstream) = stage.end().await;
            Seen { client, record, upstream }
        })
    }

    fn is_virtual(&self) -> bool {
        matches!(self.net, Net::Pipes(_))
    }

    /// A worker that follows a script; it is the router's if that is not there yet.
    pub async fn worker(&self, script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static) -> Worker {
        self.worker_that(Reads::Whole, script).await
    }

    /// As [`Self::worker`], reading as much of a request as it is said.
    pub async fn worker_that(
        &self,
        reads: Reads,
        script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static,
    ) -> Worker {
        let port = 1 + self.workers.borrow().len() as u16;
        self.worker_at(port, reads, script).await
    }

    /// A worker at a port that another one had; over sockets any port will do.
    pub async fn worker_at(
        &self,
        port: u16,
        reads: Reads,
        script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static,
    ) -> Worker {
        let (listener, address) = match &self.net {
            Net::Pipes(net) => (net.listen(port), SocketAddr::from(([127, 0, 0, 1], port))),
            Net::Sockets => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                (Listener::Tcp(listener), address)
            }
        };
        let url = format!("http://{address}");
        let worker = Worker::start(url, listener, reads, Arc::clone(&self.events), script);
        self.workers.borrow_mut().push(worker.clone());
        worker
    }

    /// Nobody listens at this worker's URL.
    pub async fn dead_worker(&self) -> Worker {
        let worker = self.worker(|_| Vec::new()).await;
        worker.kill();
        if let Net::Pipes(net) = &self.net {
            net.close(worker.port());
        }
        worker
    }

    /// The pipes, for rows that are played over them.
    pub fn pipes(&self) -> &PipeNet {
        let Net::Pipes(net) = &self.net else { panic!("a row over sockets") };
        net
    }

    /// Starts the router with the workers that there are.
    pub async fn route(&self, change: impl FnOnce(&mut RouteConfig)) {
        let policy = milepost_policies::build("round_robin", &PolicyConfig::default()).unwrap();
        self.route_with(policy, change).await;
    }

    /// As [`Self::route`], with a policy of the row's own.
    pub async fn route_with(&self, policy: Box<dyn Policy>, change: impl FnOnce(&mut RouteConfig)) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let trace =
            std::env::temp_dir().join(format!("milepost-faults-{}-{number}.jsonl", std::process::id()));
        let _ = std::fs::remove_file(&trace);
        let (listeners, at, connector, clock) = self.ends().await;
        let urls: Vec<String> = self.workers.borrow().iter().map(|w| w.url.clone()).collect();
        let mut config = RouteConfig {
            workers: worker_urls(&urls, "127.0.0.1", ROUTER_PORT).unwrap(),
            trace_log: Some(trace.clone()),
            ..RouteConfig::default()
        };
        config.health.enabled = false;
        change(&mut config);
        let router = Router::start_with(policy, config, "127.0.0.1:30000", clock, connector).unwrap();
        let shared = Arc::clone(router.shared());
        let (stop, stopped) = watch::channel(false);
        let [listener, metrics] = listeners;
        let task = RefCell::new(Some(tokio::spawn(router.serve(listener, Some(metrics), stopped))));
        let running = Running { shared, at, trace, stop, task };
        assert!(self.router.set(running).is_ok(), "one router a row");
        // What the router asks its workers at first is asked.
        self.settle().await;
    }

    /// Listeners for clients and metrics, where they are, the way to workers, and the time.
    async fn ends(&self) -> ([Listener; 2], [SocketAddr; 2], Connector, Clock) {
        match &self.net {
            Net::Pipes(net) => {
                let ports = [ROUTER_PORT, METRICS_PORT];
                let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
                let at = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
                (ports.map(|port| net.listen(port)), at, Connector::Pipes(net.clone()), clock)
            }
            Net::Sockets => {
                let bind = || TcpListener::bind("127.0.0.1:0");
                let listeners = [bind().await.unwrap(), bind().await.unwrap()];
                let at = [0, 1].map(|i: usize| listeners[i].local_addr().unwrap());
                let connector = Connector::Tcp { timeout: Duration::from_secs(10) };
                (listeners.map(Listener::Tcp), at, connector, Clock::system())
            }
        }
    }

    fn running(&self) -> &Running {
        self.router.get().expect("a router")
    }

    /// What its requests share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.running().shared
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> Client {
        self.door().enter().await.unwrap()
    }

    /// How many connections there were is nobody's concern from now on.
    pub fn under_load(&self) {
        self.under_load.set(true);
    }

    /// The way to the router, for whoever runs beside the row.
    pub fn door(&self) -> Door {
        Door::new(self.net.clone(), self.running().at[0], Arc::clone(&self.events))
    }

    /// A number of its metrics page.
    pub async fn gauge(&self, name: &str) -> f64 {
        self.door().at(self.running().at[1]).gauge(name).await
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }

    /// A client whose request is on its way.
    pub async fn asking(&self, request: impl AsRef<[u8]>) -> Client {
        let mut client = self.client().await;
        client.send(request).await;
        client
    }

    /// Everybody has done what they can do without time. Over sockets: this thread's tasks have had their turns.
    pub async fn settle(&self) {
        if self.is_virtual() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for something that others do.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let mut looks = 0u64;
        while !holds() {
            looks += 1;
            assert!(looks < 20_000_000, "waited in vain until {what}");
            self.settle().await;
        }
    }

    /// Waits until the router has so many requests in progress or behind it.
    pub async fn until_begun(&self, requests: u64) {
        let begun = || self.shared().requests.load(Ordering::Relaxed) >= requests;
        self.until("the request has begun", begun).await;
    }

    /// Waits until the router has a client's connection.
    pub async fn until_connected(&self) {
        for _ in 0..1000 {
            if self.gauge("smg_http_connections_active").await > 0.0 {
                return;
            }
        }
        panic!("no connection was accepted");
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.events.now()
    }

    /// The time since then, in words.
    pub fn since(&self, then: Duration) -> String {
        format!(" after {}", told::time(self.now().saturating_sub(then)))
    }

    /// Asks the router to end, as a signal does.
    pub fn stop(&self) {
        self.running().stop.send_replace(true);
    }

    /// Its last look: what is recorded, and what became of the workers' connections.
    async fn end(self) -> (String, String) {
        self.settle().await;
        if !*self.running().stop.borrow() {
            self.at_rest().await;
        }
        let upstream = self.upstream();
        if self.is_virtual() && !*self.running().stop.borrow() {
            tokio::time::sleep(QUIET).await;
            assert_eq!(self.open(), 0, "no connection to a worker is left");
        }
        self.stop();
        let Self { net, router, workers, events, .. } = self;
        let Running { shared, trace, task, .. } = router.into_inner().unwrap();
        let task = task.into_inner().unwrap();
        tokio::time::timeout(events.patience(), task).await.expect("the router stops").unwrap();
        let records = books::records(&shared, &trace);
        drop(shared);
        let workers = workers.into_inner();
        let is_virtual = matches!(net, Net::Pipes(_));
        for _ in 0..1_000_000 {
            if workers.iter().all(|w| w.open() == 0) {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(workers.iter().all(|w| w.open() == 0), "no connection outlives its router");
        // Each worker waits for connections; nobody else is there.
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!(tasks <= workers.len() + 1, "{tasks} tasks are left");
        (books::plain(&told::lines(&records, is_virtual), &workers), upstream)
    }

    /// Waits until nothing is under way: connections to workers are idle ones, and nobody is served.
    async fn at_rest(&self) {
        let fleet = &self.shared().fleet;
        self.until("every connection to a worker is an idle one", || {
            let idle: usize = fleet.workers().iter().map(|w| w.pool.idle()).sum();
            self.open() == idle && fleet.workers().iter().all(|w| w.in_flight() == 0)
        })
        .await;
        if self.is_virtual() {
            // What is left after a farewell.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        for gauge in ["milepost_requests_in_flight", "smg_http_connections_active"] {
            let mut value = f64::NAN;
            for _ in 0..1000 {
                value = self.gauge(gauge).await;
                if value == 0.0 {
                    break;
                }
                self.settle().await;
            }
            assert!(value == 0.0, "{gauge} is {value}");
        }
    }

    fn open(&self) -> usize {
        self.workers.borrow().iter().map(Worker::open).sum()
    }

    fn upstream(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        for worker in self.workers.borrow().iter() {
            all.extend(worker.ends(&self.events, self.is_virtual()));
        }
        for late in all.iter().filter_map(|end| end.strip_prefix("closed after ")) {
            let ms = late.strip_suffix(" ms").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
            assert!(ms.is_some_and(|after| after <= AT_ONCE), "closed after {late}: too late");
        }
        if self.under_load.get() {
            all.sort();
            all.dedup();
        }
        books::counted(all, self.is_virtual())
    }
}
