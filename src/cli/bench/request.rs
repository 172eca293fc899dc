//! How it is asked: sampling, streaming, headers, the time a request may take.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: request bodies (`load::body`).

use clap::Args;

use crate::load::body::RequestOptions;

/// How it is asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Requests")]
pub(super) struct RequestArgs {
    /// Ask for whole answers instead of streams
    #[arg(long)]
    disable_stream: bool,
    /// Let answers end where the model ends them
    #[arg(long)]
    disable_ignore_eos: bool,
    /// Sampling temperature
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Nucleus sampling, sent only if given
    #[arg(long)]
    top_p: Option<f64>,
    /// JSON object laid over every request body
    #[arg(long, value_name = "JSON")]
    extra_request_body: Option<String>,
    /// Header of every request, K=V; may be given several times
    #[arg(long, value_name = "K=V", num_args = 1..)]
    pub(super) header: Vec<String>,
    /// Longest time from connecting to the last byte
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) request_timeout_secs: u64,
    /// Longest silence inside an answer, from its first byte on
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) idle_timeout_secs: u64,
}

impl RequestArgs {
    /// As values that cannot be wrong.
    pub(super) fn options(&self) -> Result<RequestOptions, String> {
        let extra = match &self.extra_request_body {
            None => serde_json::Map::new(),
            Some(text) => match serde_json::from_str(text) {
                Ok(serde_json::Value::Object(object)) => object,
                Ok(_) => {
                    return Err(format!("--extra-request-body: expected a JSON object, got {text}"));
                }
                Err(e) => return Err(format!("--extra-request-body: {e} in {text}")),
            },
        };
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return Err(format!("--temperature: expected a number of at least 0, got {}", self.temperature));
        }
        Ok(RequestOptions {
            stream: !self.disable_stream,
            ignore_eos: !self.disable_ignore_eos,
            temperature: self.temperature,
            top_p: self.top_p,
            extra,
        })
    }
}
