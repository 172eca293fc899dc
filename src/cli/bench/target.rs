//! Who is asked: backend, address, model.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: connecting (`load::connections`).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::access::{Identity, TlsConfig};
use crate::load::backend::Backend;
use crate::load::target::Target;
use crate::net::tls::TlsError;

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
    /// Router or server, http://host:port or https://host:port
    #[arg(long)]
    base_url: Option<String>,
    /// Who signs the certificates of https targets, PEM; without it the file of `SSL_CERT_FILE`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ca_cert_paths: Vec<PathBuf>,
    /// The certificate shown to https targets that ask for one, PEM
    #[arg(long, value_name = "FILE", requires = "client_key_path")]
    client_cert_path: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "client_cert_path")]
    client_key_path: Option<PathBuf>,
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

    /// Certificates, looked at now where they are `needed` or named.
    pub(super) fn tls(&self, ssl_cert_file: Option<PathBuf>, needed: bool) -> Result<TlsConfig, String> {
        let own = self.client_cert_path.clone().zip(self.client_key_path.clone());
        let tls = TlsConfig {
            server: None,
            client: own.map(|(cert_path, key_path)| Identity { cert_path, key_path }),
            ca_cert_paths: self.ca_cert_paths.clone(),
            ssl_cert_file,
        };
        match tls.outgoing() {
            Err(error) if needed || !matches!(error, TlsError::NoRoots { .. }) => Err(error.to_string()),
            _ => Ok(tls),
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
