//! The load generators: where they are, how each is called for the same load, and where it writes what it measured.
//!
//! Rule: each gets the load in its own words and is otherwise left as it comes; a screen that redraws is switched off. One that is
//! not installed is named as left out. Deliberately not here: processes, what arrived.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::broken::Broken;

/// Prompt tokens of each request.
const PROMPT_TOKENS: &str = "16";

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Exponential gaps.
    Poisson,
    /// Equal gaps.
    Constant,
}

impl Shape {
    /// As tools and tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Constant => "constant",
        }
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many a second.
    Rate(f64, Shape),
    /// So many at a time, one after the other.
    Closed(usize),
}

/// One run of a tool.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where the server is.
    pub url: String,
    /// A folder of the run's own.
    pub folder: PathBuf,
    /// When requests are sent.
    pub pace: Pace,
    /// How many.
    pub requests: usize,
    /// Tokens of each answer.
    pub tokens: u64,
}

/// What a tool says that it measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    /// Mean time to first token.
    pub ttft_mean_ms: Option<f64>,
    /// Its 99th percentile.
    pub ttft_p99_ms: Option<f64>,
    /// Requests that it calls good.
    pub completed: Option<u64>,
}

/// A load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// This.
    Milepost,
    /// `python -m sglang.bench_serving`.
    Sglang,
    /// The same with `--rust-client`.
    SglangRust,
    /// `aiperf profile`.
    Aiperf,
    /// `guidellm run`.
    Guidellm,
}

impl Tool {
    /// In the order of the tables.
    pub const ALL: [Self; 5] = [Self::Milepost, Self::Sglang, Self::SglangRust, Self::Aiperf, Self::Guidellm];

    /// As tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milepost => "milepost bench",
            Self::Sglang => "sglang.bench_serving",
            Self::SglangRust => "sglang.bench_serving --rust-client",
            Self::Aiperf => "aiperf",
            Self::Guidellm => "guidellm",
        }
    }

    /// It can send so.
    pub fn can(self, pace: Pace) -> bool {
        let poisson_alone = matches!(self, Self::Sglang | Self::SglangRust);
        !(poisson_alone && matches!(pace, Pace::Rate(_, Shape::Constant)))
    }

    /// Its program, or the Python that has it.
    fn program(self) -> PathBuf {
        let (variable, default) = match self {
            Self::Milepost => return PathBuf::from(env!("CARGO_BIN_EXE_milepost")),
            Self::Sglang | Self::SglangRust => ("MILEPOST_SGLANG_PYTHON", "python3"),
            Self::Aiperf => ("MILEPOST_AIPERF", "aiperf"),
            Self::Guidellm => ("MILEPOST_GUIDELLM", "guidellm"),
        };
        std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from)
    }

    /// Its version; `Err`: it is not there, and how to say where it is.
    pub fn version(self) -> Result<String, String> {
        let mut command = Command::new(self.program());
        let hint = match self {
            Self::Milepost => {
                command.arg("--version");
                ""
            }
            Self::Sglang => {
                command.args([
                    "-c",
                    "import sglang.bench_serving, importlib.metadata as m; print(m.version('sglang'))",
                ]);
                "MILEPOST_SGLANG_PYTHON names the Python that has sglang"
            }
            Self::SglangRust => {
                command.args(["-c", "import sglang.benchmark.rust_client, importlib.metadata as m; print(m.version('sglang'))"]);
                "MILEPOST_SGLANG_PYTHON names the Python that has sglang with its Rust client"
            }
            Self::Aiperf => {
                command.arg("--version");
                "MILEPOST_AIPERF names it"
            }
            Self::Guidellm => {
                command.arg("--version");
                "MILEPOST_GUIDELLM names it"
            }
        };
        let said = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text =
            said.ok().filter(|out| out.status.success()).and_then(|out| String::from_utf8(out.stdout).ok());
        let last = text.as_deref().and_then(|text| text.lines().rfind(|line| !line.trim().is_empty()));
        let version = last.and_then(|line| line.split_whitespace().last()).map(str::to_owned);
        version.ok_or_else(|| format!("{} was left out: it is not installed ({hint})", self.name()))
    }

    /// The command of a run. `tokenizer` is a folder with one that takes a byte for a token.
    pub fn command(self, call: &Call, tokenizer: &Path) -> Command {
        let mut command = Command::new(self.program());
        command.current_dir(&call.folder);
        match self {
            Self::Milepost => milepost(&mut command, call),
            Self::Sglang => sglang(&mut command, call, tokenizer),
            Self::SglangRust => {
                sglang(&mut command, call, tokenizer);
                command.arg("--rust-client");
            }
            Self::Aiperf => aiperf(&mut command, call, tokenizer),
            Self::Guidellm => guidellm(&mut command, call, tokenizer),
        }
        command
    }

    /// What its end says of a run: good, or good with a doubt of its own. A run that a tool itself calls no measurement is none,
    /// but one that is only doubted did send what was asked for, and the server saw it.
    pub fn doubt(self, ended: &str) -> Result<Option<String>, Broken> {
        match (self, ended) {
            (_, ended) if ended.starts_with("exit status: 0:") => Ok(None),
            (Self::Milepost, ended) if ended.starts_with("exit status: 3:") => {
                let why = ended.split_once("milepost: ").map_or(ended, |(_, why)| why);
                Ok(Some(why.to_owned()))
            }
            _ => Err(Broken::invalid(ended.to_owned())),
        }
    }

    /// What it wrote of a run.
    pub fn reported(self, folder: &Path) -> Reported {
        match self {
            Self::Milepost => {
                let run = json(&folder.join("out/latest/run.json"));
                let metrics = &run["metrics"];
                Reported {
                    ttft_mean_ms: metrics["mean_ttft_ms"].as_f64(),
                    ttft_p99_ms: metrics["p99_ttft_ms"].as_f64(),
                    completed: metrics["completed"].as_u64(),
                }
            }
            Self::Sglang | Self::SglangRust => {
                let run = json(&folder.join("out.jsonl"));
                Reported {
                    ttft_mean_ms: run["mean_ttft_ms"].as_f64(),
                    ttft_p99_ms: run["p99_ttft_ms"].as_f64(),
                    completed: run["completed"].as_u64(),
                }
            }
            Self::Aiperf => {
                let run = json(&folder.join("out/profile_export_aiperf.json"));
                Reported {
                    ttft_mean_ms: run["time_to_first_token"]["avg"].as_f64(),
                    ttft_p99_ms: run["time_to_first_token"]["p99"].as_f64(),
                    completed: run["request_count"]["avg"].as_f64().map(|n| n as u64),
                }
            }
            Self::Guidellm => {
                let run = json(&folder.join("out.json"));
                let metrics = &run["benchmarks"][0]["metrics"];
                let ttft = &metrics["time_to_first_token_ms"]["successful"];
                Reported {
                    ttft_mean_ms: ttft["mean"].as_f64(),
                    ttft_p99_ms: ttft["percentiles"]["p99"].as_f64(),
                    completed: metrics["request_totals"]["successful"].as_u64(),
                }
            }
        }
    }
}

fn milepost(command: &mut Command, call: &Call) {
    command.args(["bench", "--backend", "sglang", "--base-url", &call.url, "--dataset-name", "random"]);
    command.args(["--random-input-len", PROMPT_TOKENS, "--random-range-ratio", "1", "--disable-tqdm"]);
    command.args(["--random-output-len", &call.tokens.to_string(), "--output-dir", "out"]);
    command.args(["--num-prompts", &call.requests.to_string()]);
    match call.pace {
        Pace::Rate(per_s, shape) => {
            command.args(["--request-rate", &per_s.to_string(), "--arrivals", shape.name()])
        }
        Pace::Closed(places) => command.args(["--max-concurrency", &places.to_string()]),
    };
}

fn sglang(command: &mut Command, call: &Call, tokenizer: &Path) {
    command.args([
        "-m",
        "sglang.bench_serving",
        "--backend",
        "sglang",
        "--base-url",
        &call.url,
        "--model",
        "m",
    ]);
    command.arg("--tokenizer").arg(tokenizer).args(["--dataset-name", "random-ids", "--disable-tqdm"]);
    command.args(["--random-input-len", PROMPT_TOKENS, "--random-range-ratio", "1.0"]);
    command.args(["--random-output-len", &call.tokens.to_string(), "--output-file", "out.jsonl"]);
    command.args(["--num-prompts", &call.requests.to_string()]);
    match call.pace {
        Pace::Rate(per_s, _) => command.args(["--request-rate", &per_s.to_string()]),
        Pace::Closed(places) => command.args(["--max-concurrency", &places.to_string()]),
    };
}

fn aiperf(command: &mut Command, call: &Call, tokenizer: &Path) {
    command.args(["profile", "--model", "m", "--url", &call.url, "--endpoint-type", "completions"]);
    command.arg("--tokenizer").arg(tokenizer).args(["--streaming", "--ui", "none", "--artifact-dir", "out"]);
    command.args(["--isl", PROMPT_TOKENS, "--osl", &call.tokens.to_string(), "--no-gpu-telemetry"]);
    command.args(["--no-server-metrics", "--request-count", &call.requests.to_string()]);
    match call.pace {
        Pace::Rate(per_s, shape) => {
            command.args(["--request-rate", &per_s.to_string(), "--arrival-pattern", shape.name()])
        }
        Pace::Closed(places) => command.args(["--concurrency", &places.to_string()]),
    };
}

fn guidellm(command: &mut Command, call: &Call, tokenizer: &Path) {
    let backend = format!("kind=openai_http,target={},model=m,request_format=/v1/completions", call.url);
    command.args(["run", "--disable-console", "--output", "kind=json,path=out.json", "--backend", &backend]);
    command.args(["--tokenizer", &format!("kind=huggingface_auto,model={}", tokenizer.display())]);
    let data = format!("kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={}", call.tokens);
    command.args(["--data", &data]);
    command.args(["--constraint", &format!("kind=max_requests,count={}", call.requests)]);
    let profile = match call.pace {
        Pace::Rate(per_s, shape) => format!("kind={},rate={per_s}", shape.name()),
        Pace::Closed(places) => format!("kind=concurrent,streams={places}"),
    };
    command.args(["--profile", &profile]);
}

/// The first document of a file; null without one.
fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::Deserializer::from_str(&text).into_iter().next().and_then(Result::ok).unwrap_or_default()
}
