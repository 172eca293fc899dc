//! The command line: every flag of sglang-router 0.3.2, and how argparse takes them.

use crate::process::{Process, until};
use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Command line",
    groups: &[Group {
        flags: "",
        workers: 0,
        cases: &[
            same(
                "the flags of a plain router, each with its default value",
                |s| starts(s, DEFAULTS),
                "starts",
            ),
            same("flags of parts that are not there, with other values", |s| starts(s, ELSEWHERE), "starts"),
            differs(
                "--pd-disaggregation --prefill URL 8998 --decode URL",
                |s| {
                    starts(
                        s,
                        "--pd-disaggregation --prefill http://127.0.0.1:1 8998 --decode http://127.0.0.1:2",
                    )
                },
                "starts",
                "refused",
                "routed without the pairing, every request would be wrong",
            ),
            same("--enable-igw", |s| starts(s, "--enable-igw"), "refused"),
            same(
                "--service-discovery --selector app=x, outside Kubernetes",
                |s| starts(s, "--service-discovery --selector app=x"),
                "starts",
            ),
            same("an abbreviation, --pol round_robin", |s| starts(s, "--pol round_robin"), "starts"),
            same("an ambiguous abbreviation, --pro 1", |s| starts(s, "--pro 1"), "refused"),
            same("--policy=round_robin", |s| starts(s, "--policy=round_robin"), "starts"),
            differs(
                "a flag twice, the last one counts",
                |s| starts(s, "--policy no_such --policy random"),
                "refused",
                "starts",
                "the value that does not count is not judged",
            ),
            same("--worker-urls without a URL", |s| starts(s, "--worker-urls"), "starts"),
            same("a flag nobody knows", |s| starts(s, "--no-such-flag"), "refused"),
            same("--port that is no number", |s| starts(s, "--port x"), "refused"),
            differs(
                "--host localhost",
                |s| starts(s, "--host localhost"),
                "refused",
                "starts",
                "a name for the loopback address is clear",
            ),
            same("--log-level warn", |s| starts(s, "--log-level warn"), "starts"),
        ],
    }],
};

/// Every flag that a router of one model with HTTP workers can be given at once, with its default where it has one.
const DEFAULTS: &str = "--policy cache_aware --cache-threshold 0.3 --balance-abs-threshold 64 --balance-rel-threshold 1.5 \
    --bucket-adjust-interval-secs 5 --eviction-interval-secs 60 --max-tree-size 67108864 --max-idle-secs 14400 \
    --assignment-mode random --max-payload-size 536870912 --worker-startup-timeout-secs 1800 --worker-startup-check-interval 30 \
    --log-level info --service-discovery-port 80 --request-timeout-secs 1800 --shutdown-grace-period-secs 180 \
    --max-concurrent-requests -1 --queue-size 100 --queue-timeout-secs 60 --retry-max-retries 5 --retry-initial-backoff-ms 50 \
    --retry-max-backoff-ms 30000 --retry-backoff-multiplier 1.5 --retry-jitter-factor 0.2 --cb-failure-threshold 10 \
    --cb-success-threshold 3 --cb-timeout-duration-secs 60 --cb-window-duration-secs 120 --health-failure-threshold 3 \
    --health-success-threshold 2 --health-check-timeout-secs 5 --health-check-interval-secs 60 --health-check-endpoint /health \
    --tokenizer-cache-l0-max-entries 10000 --tokenizer-cache-l1-max-memory 52428800 --backend sglang --history-backend memory \
    --oracle-pool-min 1 --oracle-pool-max 16 --oracle-pool-timeout-secs 30 --postgres-pool-max 16 --redis-pool-max 16 \
    --redis-retention-days 30 --otlp-traces-endpoint localhost:4317 --worker-urls \
    --cors-allowed-origins --ca-cert-paths --control-plane-api-keys --jwt-role-mapping";

/// Flags of parts that milepost does not have; none of them makes it route wrongly.
const ELSEWHERE: &str = "--tokenizer-cache-enable-l0 --tokenizer-cache-enable-l1 --tokenizer-cache-l0-max-entries 5 \
    --max-tree-size 1000 --eviction-interval-secs 5 --redis-pool-max 3 --postgres-pool-max 3 --reasoning-parser qwen3 \
    --tool-call-parser json --prefill-policy random --decode-policy random --cb-window-duration-secs 5 \
    --prometheus-duration-buckets 0.1 1 10 --disable-retries --disable-circuit-breaker --disable-health-check \
    --rate-limit-tokens-per-second 100 --max-concurrent-requests 10 --request-id-headers x-a x-b --api-key k";

/// Starts it with these flags: `starts`, or `refused`.
pub fn starts(s: &Stage, flags: &str) -> String {
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let router = Process::start(s.subject, &flags);
    until("it serves or has ended", || {
        if router.ended().is_some_and(|code| code != 0) {
            return Some("refused".to_owned());
        }
        std::net::TcpStream::connect(router.port.address()).ok().map(|_| "starts".to_owned())
    })
}
