//! Flags of sglang-router for what milepost does not have: each is taken with a warning, or refused.
//!
//! Rule: refused is what would route wrongly if it were passed over. Deliberately not here: single flags without effect in a
//! group that works; they stand in that group.

use super::flag::{Flag, Group, Takes, Value};

const NO_PD: &str = "prefill/decode disaggregation is not here, and requests would reach workers that cannot answer them alone; \
                     keep sglang-router for this fleet";
const PD_ONLY: &str = "it belongs to prefill/decode disaggregation; --policy decides for every worker";
const NO_MODELS: &str = "routing by model is not here, and a request could reach a worker with another model; run one router \
                         for each model, without this flag";
const SGLANG_ONLY: &str = "only SGLang workers are routed to; clients of an outside provider ask it directly";
const NO_KUBERNETES: &str = "no Kubernetes discovery, so NO worker will be found by it; add workers with --worker-urls or POST /workers";
const NO_TOKENIZER: &str = "nothing is tokenized or parsed here; the workers do that, set it there";
const NO_MCP: &str = "no MCP tools are called here; requests go to the workers as they are";
const NO_STORAGE: &str =
    "no conversation is stored here; /v1/responses and /v1/conversations are the workers'";

/// A number that argparse takes as `int`.
const NUMBER: Value = Value::any_integer();

/// Prefill/decode disaggregation and other kinds of fleet.
pub const FLEETS: Group = Group {
    heading: "Other kinds of fleet",
    flags: &[
        Flag::switch("pd-disaggregation", "Prefill and decode on different workers").refused(NO_PD),
        Flag::list("prefill", Takes::Repeated, "URL [PORT]", "A prefill worker and its bootstrap port")
            .refused(NO_PD),
        Flag::list("decode", Takes::Repeated, "URL", "A decode worker").refused(NO_PD),
        Flag::switch("mini-lb", "Python's random balancer for disaggregated fleets").refused(NO_PD),
        Flag::one("prefill-policy", "NAME", "Policy among prefill workers")
            .of(Value::Word(&["random", "round_robin", "cache_aware", "power_of_two", "manual", "bucket"]))
            .ignored(PD_ONLY),
        Flag::one("decode-policy", "NAME", "Policy among decode workers")
            .of(Value::Word(&["random", "round_robin", "cache_aware", "power_of_two", "manual"]))
            .ignored(PD_ONLY),
        Flag::switch("enable-igw", "Choose workers by the model of a request").refused(NO_MODELS),
        Flag::one("backend", "NAME", "What the workers are")
            .of(Value::Word(&["sglang", "openai"]))
            .or("sglang")
            .refused(SGLANG_ONLY),
    ],
};

/// Kubernetes.
pub const KUBERNETES: Group = Group {
    heading: "Kubernetes",
    flags: &[
        Flag::switch("service-discovery", "Find workers by Kubernetes").ignored(NO_KUBERNETES),
        Flag::list("selector", Takes::OneOrMore, "KEY=VALUE", "Labels of worker pods").ignored(NO_KUBERNETES),
        Flag::one("service-discovery-port", "PORT", "Port of worker pods")
            .of(NUMBER)
            .or("80")
            .ignored(NO_KUBERNETES),
        Flag::one("service-discovery-namespace", "NAME", "Namespace of worker pods").ignored(NO_KUBERNETES),
        Flag::list("prefill-selector", Takes::OneOrMore, "KEY=VALUE", "Labels of prefill pods")
            .ignored(NO_KUBERNETES),
        Flag::list("decode-selector", Takes::OneOrMore, "KEY=VALUE", "Labels of decode pods")
            .ignored(NO_KUBERNETES),
    ],
};

/// Tokenizers, parsers and tools.
pub const TEXT: Group = Group {
    heading: "Tokenizers, parsers, tools",
    flags: &[
        Flag::one("model-path", "PATH", "Model whose tokenizer is loaded").ignored(NO_TOKENIZER),
        Flag::one("tokenizer-path", "PATH", "Tokenizer").ignored(NO_TOKENIZER),
        Flag::one("chat-template", "PATH", "Chat template").ignored(NO_TOKENIZER),
        Flag::switch("tokenizer-cache-enable-l0", "Cache tokens of whole texts").ignored(NO_TOKENIZER),
        Flag::one("tokenizer-cache-l0-max-entries", "N", "Size of that cache")
            .of(NUMBER)
            .or("10000")
            .ignored(NO_TOKENIZER),
        Flag::switch("tokenizer-cache-enable-l1", "Cache tokens of prefixes").ignored(NO_TOKENIZER),
        Flag::one("tokenizer-cache-l1-max-memory", "BYTES", "Size of that cache")
            .of(NUMBER)
            .or("52428800")
            .ignored(NO_TOKENIZER),
        // The names grow with each release, so any is taken.
        Flag::one("reasoning-parser", "NAME", "Parser of reasoning").ignored(NO_TOKENIZER),
        Flag::one("tool-call-parser", "NAME", "Parser of tool calls").ignored(NO_TOKENIZER),
        Flag::one("mcp-config-path", "FILE", "MCP servers").ignored(NO_MCP),
    ],
};

/// Databases.
pub const STORAGE: Group = Group {
    heading: "Storage",
    flags: &[
        Flag::one("history-backend", "NAME", "Where conversations are stored")
            .of(Value::Word(&["memory", "none", "oracle", "postgres", "redis"]))
            .or("memory")
            .ignored(NO_STORAGE),
        Flag::one("oracle-wallet-path", "PATH", "Oracle wallet").ignored(NO_STORAGE),
        Flag::one("oracle-tns-alias", "NAME", "Oracle alias").ignored(NO_STORAGE),
        Flag::one("oracle-connect-descriptor", "TEXT", "Oracle connection")
            .of(Value::Secret)
            .ignored(NO_STORAGE),
        Flag::one("oracle-username", "NAME", "Oracle user").ignored(NO_STORAGE),
        Flag::one("oracle-password", "TEXT", "Oracle password").of(Value::Secret).ignored(NO_STORAGE),
        Flag::one("oracle-pool-min", "N", "Fewest Oracle connections").of(NUMBER).or("1").ignored(NO_STORAGE),
        Flag::one("oracle-pool-max", "N", "Most Oracle connections").of(NUMBER).or("16").ignored(NO_STORAGE),
        Flag::one("oracle-pool-timeout-secs", "SECS", "Wait for an Oracle connection")
            .of(NUMBER)
            .or("30")
            .ignored(NO_STORAGE),
        Flag::one("postgres-db-url", "URL", "PostgreSQL connection").of(Value::Secret).ignored(NO_STORAGE),
        Flag::one("postgres-pool-max", "N", "Most PostgreSQL connections")
            .of(NUMBER)
            .or("16")
            .ignored(NO_STORAGE),
        Flag::one("redis-url", "URL", "Redis connection").of(Value::Secret).ignored(NO_STORAGE),
        Flag::one("redis-pool-max", "N", "Most Redis connections").of(NUMBER).or("16").ignored(NO_STORAGE),
        Flag::one("redis-retention-days", "DAYS", "How long Redis keeps a conversation")
            .of(NUMBER)
            .or("30")
            .ignored(NO_STORAGE),
    ],
};
