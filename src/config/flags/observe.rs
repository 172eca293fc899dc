//! Flags: trace, metrics and log.

use super::flag::{Flag, Group, Origin, Takes, Value};
use super::fleet::PORT_RANGE;

/// `--trace-log`.
pub const TRACE_LOG: Flag = Flag::one(
    "trace-log",
    "FILE",
    "Write one JSON line per request to this file (appended; mode 0600); - is standard output",
)
.of(Value::Path)
.with_origin(Origin::Milepost);
/// `--trace-dir`.
pub const TRACE_DIR: Flag = Flag::one(
    "trace-dir",
    "FOLDER",
    "Let POST /milepost/trace/start open captures by name in this folder; without --trace-log nothing is captured until then",
)
.of(Value::Path)
.with_origin(Origin::Milepost);
/// `--trace-rotate-size`.
pub const TRACE_ROTATE_SIZE: Flag = Flag::one(
    "trace-rotate-size",
    "BYTES",
    "Begin another trace file when this one has so many bytes; the full one is named by its number [default: never]",
)
.of(Value::Integer(65_536, 1 << 50))
.with_origin(Origin::Milepost);
/// `--trace-rotate-secs`.
pub const TRACE_ROTATE_SECS: Flag =
    Flag::one("trace-rotate-secs", "SECS", "Begin another trace file after so many seconds [default: never]")
        .of(Value::Integer(1, 31_536_000))
        .with_origin(Origin::Milepost);
/// `--trace-max-size`.
pub const TRACE_MAX_SIZE: Flag = Flag::one(
    "trace-max-size",
    "BYTES",
    "All files of the trace together, those of every name in --trace-dir with them; beyond it the oldest is removed, and files are rotated at an eighth of it if nothing else is said [default: no limit]",
)
.of(Value::Integer(524_288, 1 << 53))
.with_origin(Origin::Milepost);
/// `--trace-compress`.
pub const TRACE_COMPRESS: Flag = Flag::one(
    "trace-compress",
    "WORD",
    "How rotated trace files are packed; every command reads them as they are",
)
.of(Value::Word(&["zstd", "off"]))
.or("zstd")
.with_origin(Origin::Milepost);
/// `--trace-sample`.
pub const TRACE_SAMPLE: Flag = Flag::one(
    "trace-sample",
    "SHARE",
    "Share of the requests that is written, by a hash of their ids; what failed and the slowest are written besides",
)
.of(Value::Number(0.0, 1.0))
.or("1")
.with_origin(Origin::Milepost);
/// `--trace-slowest`.
pub const TRACE_SLOWEST: Flag = Flag::one(
    "trace-slowest",
    "N",
    "With --trace-sample: of each minute the N slowest are written too, by whole time and by first token",
)
.of(Value::Integer(0, 10_000))
.or("10")
.with_origin(Origin::Milepost);
/// `--trace-prompt`.
pub const TRACE_PROMPT: Flag = Flag::one(
    "trace-prompt",
    "WORD",
    "What the trace tells of prompts: none (their length), hash (keyed hashes of their blocks: what is shared and no word), head:N (N characters), full (the text, up to 128 KiB)",
)
.or("hash")
.with_origin(Origin::Milepost);
/// `--trace-headers`.
pub const TRACE_HEADERS: Flag = Flag::list(
    "trace-headers",
    Takes::OneOrMore,
    "NAME",
    "Request headers that the trace tells; none that may carry a key or a cookie",
)
.with_origin(Origin::Milepost);
/// `--trace-decisions`.
pub const TRACE_DECISIONS: Flag = Flag::one(
    "trace-decisions",
    "WORD",
    "What the trace tells of each decision: off, record (what the policy saw and said), journal (also all that milepost replay needs to make it again: block hashes, never text; a policy's file is not in it, so that a replay beside one, or beside shadows that look at prompts, is approximate)",
)
.of(Value::Word(&["off", "record", "journal"]))
.or("record")
.with_origin(Origin::Milepost);
/// `--trace-buffer-records`.
pub const TRACE_BUFFER: Flag = Flag::one(
    "trace-buffer-records",
    "N",
    "Records held in memory for the trace writer; beyond that they are counted as lost",
)
.of(Value::Integer(1, 100_000_000))
.or("65536")
.with_origin(Origin::Milepost);
/// `--enable-trace`.
pub const ENABLE_TRACE: Flag = Flag::switch(
    "enable-trace",
    "Send OpenTelemetry spans of the requests to a collector, and tell workers in traceparent which span they belong to",
);
/// `--otlp-traces-endpoint`.
pub const OTLP_TRACES_ENDPOINT: Flag = Flag::one(
    "otlp-traces-endpoint",
    "HOST:PORT",
    "With --enable-trace: the collector, by OTLP over HTTP; a URL names another path than /v1/traces. gRPC is not spoken: for port 4317 without a path it is 4318",
)
.or("localhost:4317");
/// `--prometheus-port`.
pub const PROMETHEUS_PORT: Flag = Flag::one(
    "prometheus-port",
    "PORT",
    "Port of /metrics; 0 takes a free one. Without this flag a taken 29000 is only a warning",
)
.of(PORT_RANGE)
.or("29000");
/// `--prometheus-host`.
pub const PROMETHEUS_HOST: Flag = Flag::one("prometheus-host", "IP", "Address of /metrics").or("0.0.0.0");
/// `--prometheus-duration-buckets`.
pub const DURATION_BUCKETS: Flag = Flag::list(
    "prometheus-duration-buckets",
    Takes::OneOrMore,
    "SECS",
    "Upper bounds of the duration histograms [default: 1 ms to 240 s]",
)
.of(Value::Number(f64::MIN_POSITIVE, f64::MAX));
/// `--log-level`.
pub const LOG_LEVEL: Flag = Flag::one("log-level", "LEVEL", "What to say on standard error")
    .of(Value::Word(&["debug", "info", "warn", "warning", "error", "critical"]))
    .or("info");

/// What is told.
pub const OBSERVE: Group = Group {
    heading: "Trace, metrics, log",
    flags: &[
        TRACE_LOG,
        TRACE_DIR,
        TRACE_ROTATE_SIZE,
        TRACE_ROTATE_SECS,
        TRACE_MAX_SIZE,
        TRACE_COMPRESS,
        TRACE_SAMPLE,
        TRACE_SLOWEST,
        TRACE_PROMPT,
        TRACE_HEADERS,
        TRACE_DECISIONS,
        TRACE_BUFFER,
        PROMETHEUS_PORT,
        PROMETHEUS_HOST,
        DURATION_BUCKETS,
        LOG_LEVEL,
        Flag::one("log-dir", "FOLDER", "Folder for log files")
            .of(Value::Path)
            .ignored("everything is said on standard error; redirect that"),
        ENABLE_TRACE,
        OTLP_TRACES_ENDPOINT,
    ],
};
