//! Who carries out a schedule of the command line: a hook, or processes that the run started and switches of simulated workers.
//!
//! Rule: a hook does everything where there is one, so that nobody has to guess who did what. Deliberately not here: flags.

use http::HeaderMap;

pub use super::hook::Hook;
use super::processes::Processes;
pub use super::processes::Recipe;
use super::registration::{Registration, STOPPED, client_of};
use super::{Action, Injector, Kind, Outcome, switch};
use crate::clock::Clock;
use crate::config::access::TlsConfig;
use crate::load::connections::CONNECT_TIMEOUT;
use crate::load::progress::Stop;
use crate::load::target::{Target, host_port_of};
use crate::net::Connector;
use crate::net::dialer::Dialer;

/// Time of one question to a router.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Workers that the run has started, if it has, and whatever else can make a worker fail.
pub struct Hands {
    hook: Option<Hook>,
    processes: Option<Processes>,
    registration: Option<Registration>,
    connector: Connector,
    clock: Clock,
}

/// Workers to start, and the router that is told of them.
pub struct Start<'a> {
    /// How many.
    pub count: usize,
    /// How each.
    pub recipe: Recipe,
    /// The router.
    pub router: &'a Target,
    /// Headers of what is asked of it.
    pub headers: &'a HeaderMap,
    /// Who signs its certificate, if it is https, and what is shown to it.
    pub tls: &'a TlsConfig,
    /// Starting is to end.
    pub stop: &'a Stop,
}

impl Hands {
    /// Starts what is to be started.
    ///
    /// # Errors
    /// A worker does not start, the router does not take them, or all is to end; none is left behind.
    pub async fn begin(hook: Option<Hook>, start: Option<Start<'_>>, clock: Clock) -> Result<Self, String> {
        let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
        let mut hands = Self { hook, processes: None, registration: None, connector, clock };
        let Some(Start { count, recipe, router, headers, tls, stop }) = start else { return Ok(hands) };
        let processes = tokio::select! {
            biased;
            () = stop.wait() => return Err(STOPPED.to_owned()),
            started = Processes::start(count, &recipe) => started.map_err(|e| format!("--start-workers: {e}"))?,
        };
        let urls = processes.urls();
        hands.processes = Some(processes);
        let dialer = Dialer::new(hands.connector.clone(), tls.outgoing());
        let client = client_of(router, dialer, &hands.clock, headers, LIMIT).await?;
        hands.registration = Some(Registration::begin(router, client, urls, stop).await?);
        Ok(hands)
    }

    /// Where the started workers listen, in order.
    pub fn urls(&self) -> Vec<String> {
        self.processes.as_ref().map(Processes::urls).unwrap_or_default()
    }

    /// Takes the workers away from the router. Their processes end when this is dropped.
    ///
    /// # Errors
    /// The router does not let them go.
    pub async fn end(&self) -> Result<(), String> {
        match &self.registration {
            Some(registration) => registration.end().await,
            None => Ok(()),
        }
    }

    /// The URL of a worker, where it is known.
    fn url(&self, worker: &str) -> Option<String> {
        let started = self.processes.as_ref().and_then(|processes| processes.url(worker));
        started.map(str::to_owned).or_else(|| Target::parse(worker).ok().map(|_| worker.to_owned()))
    }

    async fn now(&self, action: &Action, worker: &str) -> Result<(), String> {
        if let Some(hook) = &self.hook {
            return hook.run(action, worker).await;
        }
        let stop = match action {
            Action::Begin(Kind::Stop(by)) => Some(*by),
            Action::Start => None,
            _ => {
                let url = self.url(worker).ok_or("it is not known where it is")?;
                return switch::set(&url, action, &self.connector, &self.clock).await;
            }
        };
        let processes = self.processes.as_ref().ok_or("no process was started")?;
        processes.turn(worker, stop).await
    }
}

impl Injector for Hands {
    fn carry_out<'a>(&'a self, action: &'a Action, worker: &'a str) -> Outcome<'a> {
        Box::pin(self.now(action, worker))
    }

    fn refuse(&self, action: &Action, worker: &str) -> Option<String> {
        if self.hook.is_some() {
            return None;
        }
        let started = self.processes.as_ref().is_some_and(|processes| processes.url(worker).is_some());
        let of_process = matches!(action, Action::Begin(Kind::Stop(_)) | Action::Start);
        match (of_process, started) {
            (_, true) => None,
            (true, false) => Some(format!(
                "expected the number of a worker that --start-workers starts ({} of them), or a --fault-hook that stops it",
                self.urls().len()
            )),
            (false, false) => Target::parse(worker).err().map(|_| {
                format!(
                    "expected the number of a worker that --start-workers starts ({} of them), the URL of a `milepost worker \
                     --allow-faults`, or a --fault-hook",
                    self.urls().len()
                )
            }),
        }
    }

    fn host(&self, worker: &str) -> Option<String> {
        self.url(worker).map(|url| host_port_of(&url))
    }
}
