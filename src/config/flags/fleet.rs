//! Flags: where the router listens, and which workers it has.

use super::flag::{Flag, Group, Origin, Takes, Value};

/// A TCP port.
pub(super) const PORT_RANGE: Value = Value::Integer(0, 65_535);
/// A count of seconds that may be none.
const SECONDS: Value = Value::at_least(0);

/// `--host`.
pub const HOST: Flag = Flag::one("host", "IP", "Address to listen on").or("0.0.0.0");
/// `--port`.
pub const PORT: Flag = Flag::one("port", "PORT", "Port to listen on; 0 takes a free one and prints it")
    .of(PORT_RANGE)
    .or("30000");
/// `--shutdown-grace-period-secs`.
pub const SHUTDOWN_GRACE: Flag =
    Flag::one("shutdown-grace-period-secs", "SECS", "At the end, wait this long for streams")
        .of(SECONDS)
        .or("180");
/// `--drain-delay-secs`.
pub const DRAIN_DELAY: Flag =
    Flag::one("drain-delay-secs", "SECS", "At the end, say \"not ready\" and serve on for this long first")
        .of(SECONDS)
        .or("0")
        .with_origin(Origin::Milepost);

/// Listening and ending.
pub const LISTENING: Group =
    Group { heading: "Listening", flags: &[HOST, PORT, DRAIN_DELAY, SHUTDOWN_GRACE] };

/// `--worker-urls`.
pub const WORKER_URLS: Flag = Flag::list(
    "worker-urls",
    Takes::ZeroOrMore,
    "URL",
    "Workers, each http://host:port or https://host:port; they may come up later",
);
/// `--dp-aware`.
pub const DP_AWARE: Flag =
    Flag::switch("dp-aware", "Expand each worker into its data-parallel ranks, url@rank");
/// `--worker-startup-timeout-secs`.
pub const STARTUP_TIMEOUT: Flag = Flag::one(
    "worker-startup-timeout-secs",
    "SECS",
    "After this long without a first answer a worker counts as failed; it is still asked",
)
.of(SECONDS)
.or("1800");
/// `--worker-startup-check-interval`.
pub const STARTUP_INTERVAL: Flag = Flag::one(
    "worker-startup-check-interval",
    "SECS",
    "Longest pause between two first tries to reach a worker",
)
.of(Value::at_least(1))
.or("30");

/// `--load-monitor-interval`; smg's default is 10 s, a long time for a queue.
pub const LOAD_INTERVAL: Flag = Flag::one(
    "load-monitor-interval",
    "SECS",
    "Pause between two questions to a server about its load, where a policy reads it; given, they are put for /metrics whatever the policy",
)
.of(Value::at_least(1))
.or("1")
.with_origin(Origin::Smg);

/// Workers.
pub const WORKERS: Group = Group {
    heading: "Workers",
    flags: &[WORKER_URLS, DP_AWARE, STARTUP_TIMEOUT, STARTUP_INTERVAL, LOAD_INTERVAL],
};

/// `--health-check-endpoint`.
pub const HEALTH_ENDPOINT: Flag =
    Flag::one("health-check-endpoint", "PATH", "Path that a check asks for").or("/health");
/// `--health-check-interval-secs`.
pub const HEALTH_INTERVAL: Flag =
    Flag::one("health-check-interval-secs", "SECS", "Pause between two checks of a worker")
        .of(Value::at_least(1))
        .or("60");
/// `--health-check-timeout-secs`.
pub const HEALTH_TIMEOUT: Flag = Flag::one("health-check-timeout-secs", "SECS", "Longest wait for one check")
    .of(Value::at_least(1))
    .or("5");
/// `--health-failure-threshold`.
pub const HEALTH_FAILURES: Flag =
    Flag::one("health-failure-threshold", "N", "Failures in a row until a worker gets no more requests")
        .of(COUNT)
        .or("3");
/// `--health-success-threshold`.
pub const HEALTH_SUCCESSES: Flag =
    Flag::one("health-success-threshold", "N", "Successes in a row until it gets requests again")
        .of(COUNT)
        .or("2");
/// `--disable-health-check`.
pub const HEALTH_OFF: Flag = Flag::switch("disable-health-check", "Every worker is healthy, always");

/// A count of at least one.
pub(super) const COUNT: Value = Value::Integer(1, u32::MAX as i128);

/// Health checks.
pub const HEALTH: Group = Group {
    heading: "Health checks",
    flags: &[HEALTH_ENDPOINT, HEALTH_INTERVAL, HEALTH_TIMEOUT, HEALTH_FAILURES, HEALTH_SUCCESSES, HEALTH_OFF],
};
