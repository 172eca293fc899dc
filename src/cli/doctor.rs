//! `milepost doctor`: who is asked, how far it is, and the exit code.
//!
//! Rule: names are those of `milepost route`; the report goes to standard output, everything else to standard error, the progress
//! only on a terminal. Deliberately not here: the questions (`crate::doctor`).

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::signal::StopSignals;
use super::{Failure, print};
use crate::clock::Clock;
use crate::config::access::{ApiKey, Identity, TlsConfig};
use crate::config::worker_url::WorkerUrl;
use crate::config::worker_urls;
use crate::doctor::report::{Overall, Report};
use crate::doctor::{DoctorConfig, Limits, Rounds, run as examine};
use crate::net::Connector;
use crate::net::dialer::Dialer;
use crate::net::tls::TlsError;
use crate::stdio::tell;

/// Longest wait for a connection: nobody answers later who answers at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The progress is shown from here on, and again after each such pause.
const SHOW_AFTER: Duration = Duration::from_secs(2);
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `milepost doctor`.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true)]
#[command(
    after_help = "Exit codes: 0 nothing is missing, 3 all can be used and something is missing, 4 some cannot be used, \
    1 none can be used, 2 usage, 130 interrupted.\n\nWell servers take as long as they keep an idle connection, 6 seconds are \
    waited for that; the router comes after them. A dead server costs 9 seconds, one that answers and does not generate up to \
    twice --timeout-secs, one that does not drop the long request about 20 seconds. Each server gets a request of 16 tokens, one of 8, and a long one that is left after its first tokens."
)]
pub struct DoctorArgs {
    /// Servers to examine, http://host:port or https://host:port
    #[arg(long, value_name = "URL", num_args = 0..)]
    worker_urls: Vec<String>,
    /// A router before them
    #[arg(long, value_name = "URL")]
    router: Option<String>,
    /// Sent to all of them as Authorization: Bearer
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Who signs the certificates of https servers, PEM
    #[arg(long, value_name = "FILE", num_args = 0..)]
    ca_cert_paths: Vec<PathBuf>,
    /// Certificate shown to https servers, PEM
    #[arg(long, value_name = "FILE", requires = "client_key_path")]
    client_cert_path: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "client_cert_path")]
    client_key_path: Option<PathBuf>,
    /// Longest wait for the answer of a small request, seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_secs: u64,
    /// Do not begin a long request and leave it
    #[arg(long)]
    skip_stop_check: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    fn config(&self) -> Result<DoctorConfig, String> {
        let workers =
            worker_urls(&self.worker_urls, "", 0).map_err(|error| format!("--worker-urls: {error}"))?;
        let router = self.router.as_deref().map(WorkerUrl::parse).transpose();
        let router = router.map_err(|error| format!("--router: {error}"))?;
        if workers.is_empty() && router.is_none() {
            return Err(
                "nobody to examine: expected --worker-urls http://host:port .. or --router http://host:port"
                    .to_owned(),
            );
        }
        let dialer = self.dialer(workers.iter().chain(&router))?;
        let limits = Limits { answer: Duration::from_secs(self.timeout_secs), ..Limits::default() };
        let checks_stop = !self.skip_stop_check;
        Ok(DoctorConfig { workers, router, api_key: self.key()?, dialer, limits, checks_stop })
    }

    fn key(&self) -> Result<Option<ApiKey>, String> {
        let Some(text) = &self.api_key else { return Ok(None) };
        let sendable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let key = ApiKey::new(text).filter(|_| sendable);
        key.map(Some).ok_or_else(|| {
            "--api-key: expected visible characters, without white space around them, and it is not shown"
                .to_owned()
        })
    }

    fn dialer<'a>(&self, mut urls: impl Iterator<Item = &'a WorkerUrl>) -> Result<Dialer, String> {
        let client = self.client_cert_path.clone().zip(self.client_key_path.clone());
        let tls = TlsConfig {
            server: None,
            client: client.map(|(cert_path, key_path)| Identity { cert_path, key_path }),
            ca_cert_paths: self.ca_cert_paths.clone(),
            ssl_cert_file: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
        };
        let tls = tls.outgoing();
        match (&tls, urls.find(|url| url.is_https())) {
            (Err(error @ TlsError::NoRoots { .. }), Some(url)) => return Err(format!("{url}: {error}")),
            (Ok(_) | Err(TlsError::NoRoots { .. }), _) => {}
            (Err(error), _) => return Err(error.to_string()),
        }
        Ok(Dialer::new(Connector::Tcp { timeout: CONNECT_TIMEOUT }, tls))
    }
}

/// Runs `milepost doctor`.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments whole")]
pub fn run(args: DoctorArgs) -> Result<(), Failure> {
    let config = args.config().map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))?;
    let report = runtime.block_on(watched(config))?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Failure::Run(e.to_string()))?;
        print(&format!("{text}\n"))?;
    } else {
        print(&report.text())?;
    }
    judge(&report)
}

fn judge(report: &Report) -> Result<(), Failure> {
    let summary = || report.verdict.as_str().to_owned();
    match report.verdict {
        Overall::Well => Ok(()),
        Overall::Lacking => Err(Failure::Suspect(summary())),
        Overall::SomeUnusable => Err(Failure::Invalid(summary())),
        Overall::Unusable => Err(Failure::Run(summary())),
    }
}

/// Examines, tells how far it is, and leaves nothing behind when it is interrupted.
async fn watched(config: DoctorConfig) -> Result<Report, Failure> {
    let clock = Clock::system();
    let mut signals =
        StopSignals::listen().map_err(|e| Failure::Run(format!("cannot listen for signals: {e}")))?;
    let rounds = Arc::new(Rounds::default());
    let done = {
        let examining = examine(&config, &clock, &rounds);
        let showing = show(&rounds);
        tokio::select! {
            biased;
            () = signals.next() => None,
            report = examining => Some(report),
            () = showing => None,
        }
    };
    if std::io::stderr().is_terminal() {
        tell("\r\x1b[K");
    }
    if done.is_none() {
        rounds.abort_open(&clock).await;
    }
    done.ok_or_else(|| Failure::Interrupted("interrupted; what had been begun was aborted".to_owned()))
}

/// Shows how far it is, for ever.
async fn show(rounds: &Rounds) {
    let began = Instant::now();
    let mut beat = interval_at(began + SHOW_AFTER, SHOW_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let terminal = std::io::stderr().is_terminal();
    loop {
        beat.tick().await;
        if terminal {
            let (done, all) = rounds.standing();
            tell(&format!("\r{done} of {all} examined, {:.0} s\x1b[K", began.elapsed().as_secs_f64()));
        }
    }
}
