//! Flags of `bench_serving` that mean nothing here.
//!
//! Rule: each is taken with a note that says why, so that a script goes on working. Deliberately not here: flags that would
//! change what is measured, which are refused.

use clap::Args;

/// Flags of `bench_serving` that have nothing to do here. Taken, so that a script goes on working.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of bench_serving")]
pub(super) struct UnneededArgs {
    #[arg(long, hide = true)]
    tokenizer: Option<String>,
    #[arg(long, hide = true)]
    served_model_name: Option<String>,
    #[arg(long, hide = true)]
    ready_check_timeout_sec: Option<u64>,
    #[arg(long, hide = true)]
    flush_cache_timeout: Option<f64>,
    #[arg(long, hide = true)]
    tag: Option<String>,
    #[arg(long, hide = true)]
    cache_report: bool,
    #[arg(long, hide = true)]
    print_requests: bool,
    #[arg(long, hide = true)]
    plot_throughput: bool,
    #[arg(long, hide = true)]
    pd_separated: bool,
    #[arg(long, hide = true)]
    tokenize_prompt: bool,
    #[arg(long, hide = true)]
    gsp_fast_prepare: bool,
    #[arg(long, hide = true)]
    rust_client: bool,
    #[arg(long, hide = true)]
    rust_worker_threads: Option<u32>,
}

impl UnneededArgs {
    /// A line for each that was given.
    pub(super) fn notes(&self) -> Vec<String> {
        let given = [
            (self.tokenizer.is_some(), "--tokenizer", "token counts are the servers'"),
            (self.served_model_name.is_some(), "--served-model-name", "give --model"),
            (
                self.ready_check_timeout_sec.is_some(),
                "--ready-check-timeout-sec",
                "the warm-up request is the check",
            ),
            (self.flush_cache_timeout.is_some(), "--flush-cache-timeout", "it is 30 s"),
            (self.tag.is_some(), "--tag", "use --output-dir"),
            (
                self.cache_report,
                "--cache-report",
                "cached tokens are always reported where the server tells them",
            ),
            (self.print_requests, "--print-requests", "requests.csv has them"),
            (self.plot_throughput, "--plot-throughput", "run.json has the curve"),
            (self.pd_separated, "--pd-separated", "the trace names the workers"),
            (self.tokenize_prompt, "--tokenize-prompt", "random is sent as token ids to /generate anyway"),
            (self.gsp_fast_prepare, "--gsp-fast-prepare", "prompts are made fast"),
            (self.rust_client, "--rust-client", "this is one"),
            (
                self.rust_worker_threads.is_some(),
                "--rust-worker-threads",
                "the runtime has one for each core",
            ),
        ];
        given
            .iter()
            .filter(|g| g.0)
            .map(|(_, flag, why)| format!("{flag} is not needed here and was passed over: {why}"))
            .collect()
    }
}
