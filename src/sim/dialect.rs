//! Which SGLang server the worker speaks like.
//!
//! Rule: differences between servers are questions asked here, so that the HTTP code reads as one server. Each answer was
//! seen on a real server. Deliberately not here: the bytes of an answer (`meta_info`, `http`), HTTP/2 of the Rust front end,
//! and the delays with which real servers notice a client that has gone (the engine drops its work at once).

use clap::ValueEnum;

/// A server version and front end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// 0.4.9.post6 as released: no timing field but `e2e_latency`.
    #[value(name = "0.4.9")]
    V049,
    /// 0.4.9.post6 with the patch that puts four time stamps into `meta_info`.
    #[value(name = "0.4.9-patched")]
    V049Patched,
    /// 0.5.23 with its Python front end.
    #[default]
    #[value(name = "0.5.23")]
    V0523,
    /// 0.5.23 with its Rust front end: no timing field but `e2e_latency`.
    #[value(name = "0.5.23-rust")]
    V0523Rust,
}

impl Dialect {
    /// The name as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::V049 => "0.4.9",
            Self::V049Patched => "0.4.9-patched",
            Self::V0523 => "0.5.23",
            Self::V0523Rust => "0.5.23-rust",
        }
    }

    /// `version` of the server's info.
    pub fn version(self) -> &'static str {
        if self.is_049() { "0.4.9.post6" } else { "0.5.23" }
    }

    /// Either build of 0.4.9.
    pub fn is_049(self) -> bool {
        matches!(self, Self::V049 | Self::V049Patched)
    }

    /// The Rust front end.
    pub fn is_rust(self) -> bool {
        self == Self::V0523Rust
    }

    /// Tokens after which the scheduler reports a request's output. 0.4.9 reports one that is not streamed every 50 tokens
    /// only, which is why its first-token time is then wrong.
    pub fn report_every(self, stream: bool) -> u32 {
        if self.is_049() && !stream { 50 } else { 1 }
    }

    /// How long an idle connection is kept: uvicorn 5.0 s; the Rust front end longer than was waited for (50 s).
    pub fn keep_alive_s(self) -> u64 {
        if self.is_rust() { 75 } else { 5 }
    }

    /// Methods that `path` answers, in the order of its `allow` header; `None`: no such path.
    pub fn methods(self, path: &str) -> Option<&'static [&'static str]> {
        const GET: &[&str] = &["GET"];
        const POST: &[&str] = &["POST"];
        Some(match path {
            "/health" | "/health_generate" if self.is_rust() => &["GET", "HEAD"],
            "/health" | "/health_generate" | "/get_model_info" | "/v1/models" | "/milepost/sim"
            | "/metrics" | "/metrics/" => GET,
            "/model_info" | "/server_info" | "/v1/loads" if !self.is_049() => GET,
            "/ping" | "/get_server_info" if !self.is_rust() => GET,
            "/get_load" if self.is_049() => GET,
            "/flush_cache" => &["GET", "POST"],
            "/generate" if self.is_rust() => POST,
            "/generate" => &["PUT", "POST"],
            "/v1/chat/completions" | "/v1/completions" | "/abort_request" => POST,
            _ if path.starts_with("/v1/models/") => GET,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_exist_where_the_real_servers_have_them() {
        let has =
            |path| Dialect::value_variants().iter().map(|d| d.methods(path).is_some()).collect::<Vec<_>>();
        assert_eq!(has("/get_load"), [true, true, false, false]);
        assert_eq!(has("/v1/loads"), [false, false, true, true]);
        assert_eq!(has("/get_server_info"), [true, true, true, false]);
        assert_eq!(has("/server_info"), [false, false, true, true]);
        assert_eq!(has("/generate"), [true; 4]);
        assert_eq!(has("/get_loads"), [false; 4]);
    }

    #[test]
    fn names_are_as_typed() {
        for dialect in Dialect::value_variants() {
            assert_eq!(Dialect::from_str(dialect.name(), false), Ok(*dialect));
        }
    }
}
