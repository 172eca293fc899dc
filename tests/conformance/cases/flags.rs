//! The command line: every flag of sglang-router 0.3.2, and how argparse takes them.

use crate::process::{Process, until};
use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};

const NAMED: &str = "refused, naming the flag";
const SAYS: &str = "an error says what to change";
const DISCOVERY: &str = "--service-discovery --selector app=x";
const TOKENIZER: &str = "--model-path /nowhere --tokenizer-path /nowhere";
const PD: &str = "--pd-disaggregation --prefill http://127.0.0.1:1 8998 --decode http://127.0.0.1:2";
const SERVER_TLS: &str = "--tls-cert-path /nowhere.pem --tls-key-path /nowhere.pem";
const CLIENT_TLS: &str = "--client-cert-path /nowhere.pem --client-key-path /nowhere.pem";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Command line",
    groups: &[
        Group {
            flags: "",
            workers: 0,
            cases: &[
                same(
                    "the flags of a plain router, each with its default value",
                    |s| starts(s, DEFAULTS),
                    "starts",
                ),
                same(
                    "flags of parts that are not there, with other values",
                    |s| starts(s, ELSEWHERE),
                    "starts",
                ),
                same("flags of storage, tracing and Kubernetes", |s| starts(s, UNUSED), "starts"),
                same(
                    "--service-discovery --selector app=x, outside Kubernetes",
                    |s| starts(s, DISCOVERY),
                    "starts",
                ),
                same("--dp-aware", |s| starts(s, "--dp-aware"), "starts"),
                same("--log-level warn", |s| starts(s, "--log-level warn"), "starts"),
                differs(
                    "--log-dir: files there",
                    log_dir,
                    "1",
                    "0",
                    "the log is on standard error; one warning says so",
                ),
                differs(
                    "--model-path and --tokenizer-path of no model",
                    |s| starts(s, TOKENIZER),
                    "refused",
                    "starts",
                    "no tokenizer is loaded here: text is routed as text",
                ),
                differs(
                    "--mcp-config-path of no file",
                    |s| starts(s, "--mcp-config-path /nowhere.yaml"),
                    "refused",
                    "starts",
                    "no MCP here; one warning says so",
                ),
                differs(
                    "--pd-disaggregation --prefill URL 8998 --decode URL",
                    |s| starts(s, PD),
                    "starts",
                    NAMED,
                    "routed without the pairing, every request would be wrong",
                ),
                differs("--enable-igw", |s| starts(s, "--enable-igw"), "refused", NAMED, SAYS),
            ],
        },
        Group {
            flags: "",
            workers: 0,
            cases: &[
                differs("--mini-lb", |s| starts(s, "--mini-lb"), "refused", NAMED, SAYS),
                differs(
                    "--backend openai",
                    |s| starts(s, "--backend openai"),
                    "starts",
                    NAMED,
                    "requests would go to engines, not to the provider",
                ),
                differs(
                    "--jwt-issuer, --jwt-audience, --jwt-jwks-uri",
                    |s| starts(s, JWT),
                    "starts",
                    NAMED,
                    "what is believed to be closed would be open",
                ),
                same(
                    "--tls-cert-path without --tls-key-path",
                    |s| starts(s, "--tls-cert-path /nowhere.pem"),
                    NAMED,
                ),
                differs(
                    "--tls-cert-path, --tls-key-path of no file",
                    |s| starts(s, SERVER_TLS),
                    "refused",
                    NAMED,
                    SAYS,
                ),
                differs(
                    "--client-cert-path, --client-key-path of no file",
                    |s| starts(s, CLIENT_TLS),
                    "refused",
                    NAMED,
                    SAYS,
                ),
                same("an abbreviation, --pol round_robin", |s| starts(s, "--pol round_robin"), "starts"),
                same("an ambiguous abbreviation, --pro 1", |s| starts(s, "--pro 1"), NAMED),
                same("--policy=round_robin", |s| starts(s, "--policy=round_robin"), "starts"),
                differs(
                    "a flag twice, the last one counts",
                    |s| starts(s, "--policy no_such --policy random"),
                    NAMED,
                    "starts",
                    "the value that does not count is not judged",
                ),
                same("--worker-urls without a URL", |s| starts(s, "--worker-urls"), "starts"),
                same("a flag nobody knows", |s| starts(s, "--no-such-flag"), NAMED),
                same("--port that is no number", |s| starts(s, "--port x"), NAMED),
                differs(
                    "--host localhost",
                    |s| starts(s, "--host localhost"),
                    "refused",
                    "starts",
                    "a name for the loopback address is clear",
                ),
            ],
        },
    ],
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

/// Flags of parts that are not in use here, nor are they in milepost.
const UNUSED: &str = "--chat-template x --oracle-wallet-path x --oracle-tns-alias x \
    --oracle-connect-descriptor x --oracle-username x --oracle-password x --postgres-db-url postgres://127.0.0.1:1/x \
    --redis-url redis://127.0.0.1:1 --enable-trace --control-plane-audit-enabled --service-discovery-namespace x \
    --prefill-selector a=b --decode-selector a=b";

const JWT: &str =
    "--jwt-issuer https://127.0.0.1:1 --jwt-audience x --jwt-jwks-uri https://127.0.0.1:1/keys --api-key k";

/// sglang-router writes a file a day there.
fn log_dir(s: &Stage) -> String {
    let folder =
        std::env::temp_dir().join(format!("milepost-conformance-{}-{:?}", std::process::id(), s.subject));
    std::fs::create_dir_all(&folder).unwrap();
    let started = starts(s, &format!("--log-dir {}", folder.display()));
    let files = std::fs::read_dir(&folder).unwrap().count();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(started, "starts");
    files.to_string()
}

/// Starts it with these flags: `starts`, or `refused`.
pub fn starts(s: &Stage, flags: &str) -> String {
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let router = Process::start(s.subject, &flags);
    until("it serves or has ended", || {
        if router.ended().is_some_and(|code| code != 0) {
            let first = flags.iter().find(|f| f.starts_with("--")).map(|f| f.split('=').next().unwrap_or(f));
            let named = first.is_some_and(|f| router.said().contains(f));
            return Some(if named { "refused, naming the flag" } else { "refused" }.to_owned());
        }
        std::net::TcpStream::connect(router.port.address()).ok().map(|_| "starts".to_owned())
    })
}

/// So that a flag that is added to the table is also tried here.
#[test]
fn every_flag_of_sglang_router_is_tried() {
    use milepost::config::flags::{Origin, all};
    let text =
        [include_str!("flags.rs"), include_str!("policies.rs"), include_str!("../process.rs")].concat();
    let tried = |name: &str| {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .any(|w| w.strip_prefix("--") == Some(name))
    };
    let untried: Vec<&str> =
        all().filter(|f| f.origin == Origin::SglangRouter && !tried(f.name)).map(|f| f.name).collect();
    assert!(untried.is_empty(), "{untried:?}");
}
