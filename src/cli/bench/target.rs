//! Who is asked: backend, address, model.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: connecting (`load::connections`).

use clap::{Args, ValueEnum};

use crate::load::backend::Backend;
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
    /// POST /v1/completions
    Vllm,
    /// POST /v1/chat/completions
    VllmChat,
    /// POST /v1/completions
    Lmdeploy,
    /// POST /v1/chat/completions
    LmdeployChat,
    /// POST `/v2/models/ensemble/generate_stream` (`TensorRT-LLM` behind Triton)
    Trt,
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
    /// Port, if there is no --base-url [default: 30000; vllm and trt 8000, lmdeploy 23333]
    #[arg(long)]
    port: Option<u16>,
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
            BackendName::Vllm => Backend::Vllm,
            BackendName::VllmChat => Backend::VllmChat,
            BackendName::Lmdeploy => Backend::Lmdeploy,
            BackendName::LmdeployChat => Backend::LmdeployChat,
            BackendName::Trt => Backend::Triton,
        }
    }

    /// Router or server.
    pub(super) fn target(&self) -> Result<Target, String> {
        let port = self.port.unwrap_or_else(|| self.backend().default_port());
        let url = self.base_url.clone().unwrap_or_else(|| base_url(&self.host, port));
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
