//! Who is asked: backend, address, model.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: connecting (`load::connections`).

use clap::{Args, ValueEnum};

use crate::load::body::Backend;
use crate::load::target::Target;

/// `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// POST /generate
    Sglang,
    /// POST /generate
    SglangNative,
    /// POST /v1/completions
    SglangOai,
    /// POST /v1/chat/completions
    SglangOaiChat,
}

/// Who is asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub(super) struct TargetArgs {
    /// Which endpoint, in which shape
    #[arg(long, value_enum, default_value = "sglang")]
    backend: BackendName,
    /// Router or server, http://host:port
    #[arg(long)]
    base_url: Option<String>,
    /// Host, if there is no --base-url
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port, if there is no --base-url
    #[arg(long, default_value_t = 30000)]
    port: u16,
    /// Model name for the OpenAI endpoints (else asked from the server)
    #[arg(long)]
    pub(super) model: Option<String>,
}

impl TargetArgs {
    /// Endpoint and shape of the requests.
    pub(super) fn backend(&self) -> Backend {
        match self.backend {
            BackendName::Sglang | BackendName::SglangNative => Backend::Native,
            BackendName::SglangOai => Backend::Completions,
            BackendName::SglangOaiChat => Backend::Chat,
        }
    }

    /// Router or server.
    pub(super) fn target(&self) -> Result<Target, String> {
        let url = self.base_url.clone().unwrap_or_else(|| base_url(&self.host, self.port));
        Target::parse(&url).map_err(|e| format!("--base-url: {e}"))
    }
}

/// `bench_serving`'s default host 0.0.0.0 is no address to connect to; it means this host.
fn base_url(host: &str, port: u16) -> String {
    match host {
        "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        host if host.contains(':') && !host.starts_with('[') => format!("http://[{host}]:{port}"),
        host => format!("http://{host}:{port}"),
    }
}
