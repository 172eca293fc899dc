//! `milepost worker`: one simulated SGLang server.
//!
//! Rule: flags keep SGLang's names where SGLang has them. Deliberately not here: the simulation (`crate::sim`).

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use tokio::net::TcpListener;

use super::signal::StopSignals;
use super::{Failure, print};
use crate::clock::Clock;
use crate::sim::{Dialect, Profile, SimConfig, Worker};
use crate::stdio::tell_line;

/// Share of late steps from which the worker says so when it ends.
const WORTH_SAYING: f64 = 0.02;

/// Arguments of `milepost worker`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Whatever this worker answers is SIMULATED and says so in x-milepost-simulated.")]
pub struct WorkerArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, default_value_t = 30_000)]
    port: u16,
    /// The SGLang server to speak like.
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// Name of the model; nothing is loaded.
    #[arg(long, default_value = "simulated-8b")]
    model_path: String,
    /// Most requests in one batch [default: the profile's, 256].
    #[arg(long)]
    max_running_requests: Option<usize>,
    /// KV cache in tokens [default: the profile's, 400000].
    #[arg(long)]
    max_total_tokens: Option<u64>,
    /// Most tokens of one prefill step [default: the profile's, 8192].
    #[arg(long)]
    chunked_prefill_size: Option<u64>,
    /// Most tokens of prompt and answer together [default: the profile's, 131072].
    #[arg(long)]
    context_length: Option<u64>,
    /// Most requests that wait; more are refused with 503 [default: no limit].
    #[arg(long)]
    max_queued_requests: Option<usize>,
    /// Divides all simulated times.
    #[arg(long, default_value_t = 1.0)]
    speedup: f64,
    /// Seed of the answers' words and lengths.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// JSON file with latencies and sizes of another GPU or model.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// How far the worker's clocks are ahead of this host's; negative: behind.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    clock_offset_ms: i64,
    /// Answer as a server started without --enable-metrics: most time stamps are left out.
    #[arg(long)]
    disable_metrics: bool,
    /// Honour the request header x-milepost-sim-fault and the switch POST /milepost/sim/fault.
    #[arg(long)]
    allow_faults: bool,
    /// End when standard input does, that is, with whoever holds its other end.
    #[arg(long)]
    end_with_stdin: bool,
}

impl WorkerArgs {
    fn config(&self) -> Result<SimConfig, Failure> {
        let mut profile = match &self.profile {
            Some(path) => Profile::read(path).map_err(|e| Failure::Usage(format!("--profile {e}")))?,
            None => Profile::default(),
        };
        profile.max_running_requests = self.max_running_requests.unwrap_or(profile.max_running_requests);
        profile.kv_tokens = self.max_total_tokens.unwrap_or(profile.kv_tokens);
        profile.chunked_prefill_tokens = self.chunked_prefill_size.unwrap_or(profile.chunked_prefill_tokens);
        profile.context_tokens = self.context_length.unwrap_or(profile.context_tokens);
        let config = SimConfig {
            dialect: self.dialect,
            model_path: self.model_path.clone(),
            profile,
            speedup: self.speedup,
            seed: self.seed,
            max_queued_requests: self.max_queued_requests,
            clock_offset_us: self.clock_offset_ms.saturating_mul(1_000),
            metrics: !self.disable_metrics,
            allow_faults: self.allow_faults,
        };
        config.check().map_err(Failure::Usage)?;
        Ok(config)
    }

    fn address(&self) -> Result<SocketAddr, Failure> {
        let resolved = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses = resolved.map_err(|e| Failure::Usage(format!("--host {}: {e}", self.host)))?;
        addresses.next().ok_or_else(|| Failure::Usage(format!("--host {}: has no address", self.host)))
    }
}

/// Runs `milepost worker` until Ctrl-C or SIGTERM.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments whole")]
pub fn run(args: WorkerArgs) -> Result<(), Failure> {
    let (config, address) = (args.config()?, args.address()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Run(format!("worker: cannot start its threads: {e}")))?;
    runtime.block_on(serve(config, address, args.end_with_stdin))
}

/// Returns when there is nothing more to read. A thread, as the runtime would wait for a read at its end.
async fn end_of_stdin() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // One that cannot be read has ended.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(ended);
    });
    // The end is that nobody is left to send.
    let _ = end.await;
}

async fn serve(config: SimConfig, address: SocketAddr, end_with_stdin: bool) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Failure::Usage(format!(
            "--port {}: cannot listen on {address}: {e}; choose another port, or 0 for a free one",
            address.port()
        ))
    })?;
    let local = listener.local_addr().map_err(|e| Failure::Run(format!("worker: {e}")))?;
    let mut signals =
        StopSignals::listen().map_err(|e| Failure::Run(format!("worker: cannot listen for signals: {e}")))?;
    let dialect = config.dialect.name();
    let worker = Worker::start(config, Clock::system()).map_err(|e| Failure::Run(format!("worker: {e}")))?;
    print(&format!("SIMULATED SGLang worker ({dialect}) on http://{local}\n"))?;
    let ended = async move {
        if end_with_stdin {
            tokio::select! {
                () = signals.next() => {}
                () = end_of_stdin() => {}
            }
        } else {
            signals.next().await;
        }
    };
    let served = worker.clone().serve(listener, ended).await;
    let pace = worker.pace();
    if pace.late_share > WORTH_SAYING {
        let (late, steps, mean_us) = (pace.late_steps, pace.steps, pace.late_mean_us);
        tell_line(&format!(
            "SIMULATED worker on {local}: {late} of {steps} steps ended more than 2 % late (mean {mean_us:.0} µs): client-side times include that"
        ));
    }
    served.map_err(|e| Failure::Run(format!("worker: {e}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: WorkerArgs,
    }

    fn config(flags: &[&str]) -> Result<SimConfig, Failure> {
        Command::try_parse_from(std::iter::once(&"worker").chain(flags)).expect("parses").args.config()
    }

    #[test]
    fn flags_override_the_profile() {
        let flags = [
            "--dialect",
            "0.4.9-patched",
            "--max-total-tokens",
            "9000",
            "--clock-offset-ms",
            "-5",
            "--disable-metrics",
        ];
        let config = config(&flags).expect("can run");
        assert_eq!(
            (config.dialect, config.profile.kv_tokens, config.metrics),
            (Dialect::V049Patched, 9_000, false)
        );
        assert_eq!(config.clock_offset_us, -5_000);
    }

    #[test]
    fn what_cannot_run_is_a_usage_error() {
        assert!(matches!(config(&["--speedup", "0"]), Err(Failure::Usage(m)) if m.contains("speedup")));
        assert!(
            matches!(config(&["--profile", "no-such-file.json"]), Err(Failure::Usage(m)) if m.contains("no-such-file.json"))
        );
    }

    #[test]
    fn a_taken_port_names_the_flag_and_the_port() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = taken.local_addr().expect("bound").port();
        let flags = ["worker", "--port", &port.to_string()];
        let failure = run(Command::try_parse_from(flags).expect("parses").args).expect_err("taken");
        assert!(
            matches!(&failure, Failure::Usage(m) if m.contains("--port") && m.contains(&port.to_string())),
            "{failure}"
        );
    }
}
