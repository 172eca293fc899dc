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
        TRACE_DECISIONS,
        TRACE_BUFFER,
        PROMETHEUS_PORT,
        PROMETHEUS_HOST,
        DURATION_BUCKETS,
        LOG_LEVEL,
        Flag::one("log-dir", "FOLDER", "Folder for log files")
            .of(Value::Path)
            .ignored("everything is said on standard error; redirect that"),
        Flag::switch("enable-trace", "Export OpenTelemetry spans").ignored(NO_SPANS),
        Flag::one("otlp-traces-endpoint", "HOST:PORT", "OpenTelemetry collector")
            .or("localhost:4317")
            .ignored(NO_SPANS),
    ],
};

const NO_SPANS: &str = "no OpenTelemetry export; --trace-log writes one record per request";
