//! Flags: what a request may be, how many run, and what follows a failed attempt.

use super::flag::{Flag, Group, Origin, Takes, Value};
use super::fleet::COUNT;

/// `--max-payload-size`.
pub const MAX_PAYLOAD: Flag = Flag::one("max-payload-size", "BYTES", "Largest request body (413 above)")
    .of(Value::at_least(1))
    .or("536870912");
/// `--max-buffered-request-bytes`.
pub const MAX_BUFFERED: Flag =
    Flag::one("max-buffered-request-bytes", "BYTES", "All request bodies in memory together (503 above)")
        .of(Value::at_least(1))
        .or("4294967296")
        .with_origin(Origin::Milepost);
/// `--request-timeout-secs`.
pub const REQUEST_TIMEOUT: Flag =
    Flag::one("request-timeout-secs", "SECS", "Longest time of a whole request, its stream included")
        .of(Value::at_least(1))
        .or("1800");
/// `--request-id-headers`.
pub const REQUEST_ID_HEADERS: Flag = Flag::list(
    "request-id-headers",
    Takes::ZeroOrMore,
    "NAME",
    "Where a request id is looked for, in this order [default: x-request-id x-correlation-id x-trace-id request-id]",
);
/// `--forward-headers`.
pub const FORWARD_HEADERS: Flag = Flag::list(
    "forward-headers",
    Takes::OneOrMore,
    "NAME",
    "Client headers passed to workers besides the allowlist",
)
.with_origin(Origin::Milepost);
/// `--cors-allowed-origins`.
pub const CORS_ORIGINS: Flag = Flag::list(
    "cors-allowed-origins",
    Takes::ZeroOrMore,
    "ORIGIN",
    "Browser origins that may read answers [default: any]",
);

/// One request.
pub const REQUESTS: Group = Group {
    heading: "Requests",
    flags: &[MAX_PAYLOAD, MAX_BUFFERED, REQUEST_TIMEOUT, REQUEST_ID_HEADERS, FORWARD_HEADERS, CORS_ORIGINS],
};

/// `--max-concurrent-requests`.
pub const MAX_CONCURRENT: Flag =
    Flag::one("max-concurrent-requests", "N", "Requests at workers at one time; -1: no limit")
        .of(Value::Integer(-1, u32::MAX as i128))
        .or("-1");
/// `--queue-size`.
pub const QUEUE_SIZE: Flag =
    Flag::one("queue-size", "N", "Requests that may wait for their turn; 0: none waits (429)")
        .of(Value::Integer(0, u32::MAX as i128))
        .or("100");
/// `--queue-timeout-secs`.
pub const QUEUE_TIMEOUT: Flag = Flag::one("queue-timeout-secs", "SECS", "Longest such wait (408 after it)")
    .of(Value::at_least(1))
    .or("60");
/// `--rate-limit-tokens-per-second`.
pub const RATE_LIMIT: Flag =
    Flag::one("rate-limit-tokens-per-second", "N", "Requests that may begin in a second [default: no limit]")
        .of(COUNT);

/// Many requests.
pub const LIMITS: Group =
    Group { heading: "Limits", flags: &[MAX_CONCURRENT, QUEUE_SIZE, QUEUE_TIMEOUT, RATE_LIMIT] };

/// A pause in milliseconds.
const MILLIS: Value = Value::at_least(1);

/// `--retry-max-retries`.
pub const MAX_ATTEMPTS: Flag = Flag::one(
    "retry-max-retries",
    "N",
    "Attempts for one request before its first response byte (sglang-router's name; it counts attempts)",
)
.of(COUNT)
.or("5");
/// `--retry-initial-backoff-ms`.
pub const INITIAL_BACKOFF: Flag =
    Flag::one("retry-initial-backoff-ms", "MS", "Pause once every worker that may be asked has been tried")
        .of(MILLIS)
        .or("50");
/// `--retry-max-backoff-ms`.
pub const MAX_BACKOFF: Flag =
    Flag::one("retry-max-backoff-ms", "MS", "Longest such pause").of(MILLIS).or("30000");
/// `--retry-backoff-multiplier`.
pub const BACKOFF_MULTIPLIER: Flag =
    Flag::one("retry-backoff-multiplier", "RATIO", "Each pause is this many times the one before")
        .of(Value::Number(1.0, f64::MAX))
        .or("1.5");
/// `--retry-jitter-factor`.
pub const JITTER_FACTOR: Flag =
    Flag::one("retry-jitter-factor", "SHARE", "A pause is made longer or shorter by up to this share of it")
        .of(Value::Number(0.0, 1.0))
        .or("0.2");
/// `--disable-retries`.
pub const RETRIES_OFF: Flag = Flag::switch("disable-retries", "One attempt only");

/// Failed attempts.
pub const RETRIES: Group = Group {
    heading: "Retries",
    flags: &[MAX_ATTEMPTS, INITIAL_BACKOFF, MAX_BACKOFF, BACKOFF_MULTIPLIER, JITTER_FACTOR, RETRIES_OFF],
};

/// `--cb-failure-threshold`.
pub const BREAKER_FAILURES: Flag =
    Flag::one("cb-failure-threshold", "N", "Failed requests in a row that open a worker's breaker")
        .of(COUNT)
        .or("10");
/// `--cb-success-threshold`.
pub const BREAKER_SUCCESSES: Flag =
    Flag::one("cb-success-threshold", "N", "Successful ones in a row that close it again").of(COUNT).or("3");
/// `--cb-timeout-duration-secs`.
pub const BREAKER_OPEN: Flag = Flag::one("cb-timeout-duration-secs", "SECS", "From open to the first probes")
    .of(Value::at_least(1))
    .or("60");
/// `--disable-circuit-breaker`.
pub const BREAKER_OFF: Flag =
    Flag::switch("disable-circuit-breaker", "No number of failed requests takes a worker out");

/// Failing workers.
pub const BREAKER: Group = Group {
    heading: "Circuit breaker",
    flags: &[
        BREAKER_FAILURES,
        BREAKER_SUCCESSES,
        BREAKER_OPEN,
        BREAKER_OFF,
        Flag::one("cb-window-duration-secs", "SECS", "Window in which failures count")
            .of(Value::any_integer())
            .or("120")
            .ignored("failures in a row open the breaker, in whatever time; it has no effect in sglang-router 0.3.2 either"),
    ],
};
