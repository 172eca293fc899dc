//! Every flag that works reaches the settings, and no flags are the defaults.

use super::super::flag::{Standing, Takes, Value};
use super::super::{about_spans, all, without_effect};
use super::*;

fn given(flags: &[(&Flag, &[&str])]) -> Given {
    let mut given = Given::default();
    for (flag, values) in flags {
        given.set(flag, values.iter().map(Into::into).collect());
    }
    given
}

fn error(flags: &[(&Flag, &[&str])]) -> String {
    Settings::read(&given(flags)).expect_err("refused").to_string()
}

fn by_name(name: &str) -> &'static Flag {
    all().find(|flag| flag.name == name).expect("a flag")
}

#[test]
fn without_flags_the_settings_are_the_defaults_of_the_code() {
    let settings = Settings::read(&Given::default()).unwrap();
    let mut expected = RouteConfig::default();
    expected.policy_config.seed = 1;
    assert_eq!(format!("{:?}", settings.config), format!("{expected:?}"));
    assert_eq!(settings.listen, Endpoint { host: "0.0.0.0".to_owned(), port: 30_000, port_is_given: false });
    assert_eq!((settings.metrics.port, settings.log_level), (29_000, Level::Info));
}

/// A value that the flag takes and that is not its default.
fn another(flag: &Flag) -> String {
    let default = flag.default.unwrap_or_default();
    match flag.value {
        Value::Integer(least, _) if flag.default.is_none() => (least + 7).to_string(),
        Value::Integer(..) => (default.parse::<i128>().unwrap_or(0) + 7).to_string(),
        Value::Number(..) if flag.name == "consistent-hash-load-factor" => "1.25".to_owned(),
        Value::Number(..) if flag.name == "trace-sample" => "0.5".to_owned(),
        Value::Number(..) => (default.parse::<f64>().unwrap_or(0.0) + 0.25).to_string(),
        Value::Word(words) => words.iter().rfind(|word| **word != default).unwrap().to_string(),
        Value::Path => "file.pem".to_owned(),
        Value::Text | Value::Secret => match flag.name {
            "control-plane-api-keys" => "id:name:user:key",
            "cors-allowed-origins" => "https://example.com",
            "health-check-endpoint" => "/other",
            "otlp-traces-endpoint" => "collector:4318",
            "policy" | "shadow-policy" => "random",
            "split" => "random=1,bucket=1",
            "trace-prompt" => "head:200",
            "worker-urls" => "http://w:1",
            _ => "another",
        }
        .to_owned(),
    }
}

#[test]
fn every_flag_that_works_changes_the_settings_and_is_not_warned_about() {
    let pairs = [(&access::TLS_CERT, &access::TLS_KEY), (&access::CLIENT_CERT, &access::CLIENT_KEY)];
    for flag in all().filter(|flag| flag.standing == Standing::Works) {
        let mut before = Given::default();
        for (cert, key) in pairs.iter().filter(|(a, b)| a.name == flag.name || b.name == flag.name) {
            before.set(cert, vec!["c".into()]);
            before.set(key, vec!["k".into()]);
        }
        if flag.name == observe::TRACE_DECISIONS.name {
            before.set(&observe::TRACE_LOG, vec!["t.jsonl".into()]);
        }
        if flag.name == observe::OTLP_TRACES_ENDPOINT.name {
            before.set(&observe::ENABLE_TRACE, Vec::new());
        }
        let mut after = before.clone();
        let values = if flag.takes == Takes::Switch { Vec::new() } else { vec![another(flag).into()] };
        after.set(flag, values);
        let read = |given: &Given| Settings::read(given).unwrap_or_else(|e| panic!("{}: {e}", flag.name));
        let (before, now) = (read(&before), read(&after));
        assert_ne!(format!("{before:?}"), format!("{now:?}"), "--{} does nothing", flag.name);
        assert_eq!(without_effect(&after), None, "{}", flag.name);
    }
}

#[test]
fn values_that_only_fit_together_are_checked_together() {
    let split = error(&[(&routing::SPLIT, &["random=1,bucket=1"]), (&routing::POLICY, &["cache_aware"])]);
    assert_eq!(split, "--split and --policy: the arms name the policies; leave --policy out");
    let backoff = error(&[(&requests::INITIAL_BACKOFF, &["80"]), (&requests::MAX_BACKOFF, &["20"])]);
    assert!(backoff.contains("--retry-initial-backoff-ms and --retry-max-backoff-ms"), "{backoff}");
    assert!(backoff.contains("got 80 ms and 20 ms"), "{backoff}");
    let (log, rotate) = (&observe::TRACE_LOG, &observe::TRACE_ROTATE_SIZE);
    let few = error(&[(&observe::TRACE_MAX_SIZE, &["1000000"]), (rotate, &["500000"])]);
    assert!(few.contains("room for 4 files; got 1000000 and 500000 bytes"), "{few}");
    let stdout = error(&[(log, &["-"]), (rotate, &["500000"])]);
    assert!(stdout.contains("standard output cannot be rotated"), "{stdout}");
    let journal = error(&[(&observe::TRACE_DECISIONS, &["journal"])]);
    assert!(journal.starts_with("--trace-decisions and --trace-log: "), "{journal}");
    for (one, other) in [
        (&access::TLS_CERT, &access::TLS_KEY),
        (&access::TLS_KEY, &access::TLS_CERT),
        (&access::CLIENT_CERT, &access::CLIENT_KEY),
        (&access::CLIENT_KEY, &access::CLIENT_CERT),
    ] {
        let error = error(&[(one, &["x.pem"])]);
        assert!(error.starts_with(&format!("--{} and --{}: ", one.name, other.name)), "{error}");
    }
}

#[test]
fn values_are_refused_with_flag_value_and_expectation() {
    for (flag, values, words) in [
        (&requests::MAX_CONCURRENT, &["0"][..], "expected -1 (no limit) or at least 1, got 0"),
        (&requests::MAX_CONCURRENT, &["-2"], "a whole number of at least -1, got -2"),
        (&requests::RATE_LIMIT, &["0"], "got 0"),
        (&requests::MAX_ATTEMPTS, &["0"], "a whole number of at least 1, got 0"),
        (&requests::BACKOFF_MULTIPLIER, &["0.5"], "a number of at least 1, got 0.5"),
        (&requests::FORWARD_HEADERS, &["x-a", "a:b"], "names of headers, got a:b"),
        (&requests::REQUEST_ID_HEADERS, &["a b"], "names of headers, got a b"),
        (&requests::CORS_ORIGINS, &["https://a/"], "an origin such as https://example.com"),
        (&requests::CORS_ORIGINS, &["a.example"], "got a.example"),
        (&routing::CONSISTENT_LOAD_FACTOR, &["0.5"], "0 (load does not matter) or at least 1, got 0.5"),
        (&fleet::HEALTH_ENDPOINT, &["health"], "a path such as /health, got health"),
        (&fleet::HEALTH_ENDPOINT, &["/a b"], "a path such as /health, got /a b"),
        (&observe::DURATION_BUCKETS, &["0.1", "0"], "a number above 0, got 0"),
        (&observe::DURATION_BUCKETS, &["0.1", "inf"], "a number above 0, got inf"),
        (&observe::TRACE_LOG, &[""], "a path, got an empty text"),
        (&observe::TRACE_PROMPT, &["head"], "none, hash, head:N (N characters) or full, got head"),
        (&observe::TRACE_HEADERS, &["x-tenant", "X-Api-Key"], "that carry no secret"),
        (&observe::TRACE_HEADERS, &["cookie"], "got cookie"),
        (&routing::POLICY, &["cache-awre"], "did you mean cache_aware?"),
        (
            &routing::SPLIT,
            &["random=1,shortest_queue=-3"],
            "shortest_queue=-3: expected a whole number of 1 or more",
        ),
        (
            &routing::SPLIT,
            &["random=1,cache-awre=2"],
            "cache-awre=2: unknown policy \"cache-awre\"; did you mean",
        ),
        (&routing::SPLIT, &["random=1,"], "an empty part: expected POLICY=WEIGHT"),
        (&routing::SPLIT, &["random=1"], "for one policy there is --policy"),
        (
            &routing::SHADOW_POLICY,
            &["random,rnadom"],
            "rnadom: unknown policy \"rnadom\"; did you mean random?",
        ),
        (&routing::SHADOW_POLICY, &["random,random"], "random: named twice"),
    ] {
        let error = error(&[(flag, values)]);
        assert!(error.starts_with(&format!("--{}: ", flag.name)), "{error}");
        assert!(error.contains(words), "{words}: {error}");
    }
    let many: Vec<String> = (1..=101).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(error(&[(&observe::DURATION_BUCKETS, &many)]).contains("at most 100 bounds, got 101"));
}

#[test]
fn values_mean_what_sglang_router_means_by_them() {
    let read = |flag: &Flag, values: &[&str]| Settings::read(&given(&[(flag, values)])).unwrap().config;
    assert_eq!(read(&requests::MAX_CONCURRENT, &["-1"]).limits.max_concurrent, None);
    assert_eq!(read(&requests::MAX_CONCURRENT, &["8"]).limits.max_concurrent, Some(8));
    assert_eq!(read(&observe::DURATION_BUCKETS, &["5", "1", "5"]).duration_buckets_s, [1.0, 5.0]);
    let off = given(&[(&requests::RETRIES_OFF, &[]), (&requests::MAX_ATTEMPTS, &["9"])]);
    assert_eq!(Settings::read(&off).unwrap().config.retry.max_attempts, 1);
    assert!(read(&requests::CORS_ORIGINS, &["https://a", "*"]).cors_allowed_origins.is_empty(), "* is any");
    assert_eq!(read(&routing::POLICY, &["cache_aware"]).policy, "cache_aware");
    assert_eq!(
        read(&routing::CACHE_AWARE_MODE, &["improved"]).policy,
        "cache_aware_improved",
        "never silent"
    );
    let century = read(&requests::REQUEST_TIMEOUT, &["999999999999"]).request_timeout;
    assert_eq!(century.as_secs(), 3_155_760_000, "for ever, and no clock overflows");
    for (word, level) in [
        ("debug", Level::Debug),
        ("warn", Level::Warn),
        ("warning", Level::Warn),
        ("error", Level::Error),
        ("critical", Level::Error),
    ] {
        let settings = Settings::read(&given(&[(&observe::LOG_LEVEL, &[word])])).unwrap();
        assert_eq!(settings.log_level, level, "{word}");
    }
}

#[test]
fn spans_are_sent_where_sglang_router_sends_them_by_the_port_of_http() {
    let said = |flags: &[(&Flag, &[&str])]| {
        let given = given(flags);
        let collector = Settings::read(&given).unwrap().config.otlp_traces;
        (collector.as_ref().map(ToString::to_string), about_spans(&given, collector.as_ref()))
    };
    let (on, to) = (&observe::ENABLE_TRACE, &observe::OTLP_TRACES_ENDPOINT);
    let usual = Some("http://localhost:4318/v1/traces".to_owned());
    assert_eq!(said(&[(on, &[])]), (usual.clone(), None));
    let (typed, line) = said(&[(on, &[]), (to, &["localhost:4317"])]);
    assert_eq!(typed, usual);
    assert!(line.unwrap().contains("4317 is the port of gRPC"));
    assert_eq!(said(&[(on, &[]), (to, &["c:4318"])]), (Some("http://c:4318/v1/traces".to_owned()), None));
    for idle in ["c:4318", "https://c:4318", "grpc://c:4317"] {
        let (none, line) = said(&[(to, &[idle])]);
        assert_eq!(
            (none, line.as_deref()),
            (None, Some("--otlp-traces-endpoint has no effect without --enable-trace"))
        );
    }
    assert_eq!(said(&[(to, &["localhost:4317"])]), (None, None), "the default, typed");
    let refused = error(&[(on, &[]), (to, &["https://c:4318"])]);
    assert!(refused.starts_with("--otlp-traces-endpoint: ") && refused.contains("https is not spoken here"));
}

#[test]
fn what_would_route_wrongly_is_refused_all_at_once_with_the_way_out() {
    let said = error(&[
        (by_name("pd-disaggregation"), &[]),
        (by_name("prefill"), &["http://a:1", "8998"]),
        (by_name("jwt-issuer"), &["https://issuer"]),
        (by_name("backend"), &["openai"]),
    ]);
    for words in [
        "--pd-disaggregation, --prefill (prefill/decode",
        "keep sglang-router for this fleet",
        "--jwt-issuer (tokens are not checked here",
        "use --control-plane-api-keys",
        "--backend (only SGLang",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(Settings::read(&given(&[(by_name("backend"), &["sglang"])])).is_ok());
    for name in ["mini-lb", "decode", "enable-igw", "jwt-audience", "jwt-jwks-uri", "jwt-role-mapping"] {
        assert!(error(&[(by_name(name), &["x"])]).contains(&format!("--{name} (")), "{name}");
    }
}

#[test]
fn flags_without_effect_are_named_once_with_their_reason() {
    let line = without_effect(&given(&[
        (by_name("log-dir"), &["/var/log"]),
        (by_name("service-discovery"), &[]),
        (by_name("selector"), &["app=x"]),
        (by_name("oracle-password"), &["hidden"]),
        (by_name("redis-pool-max"), &["16"]),
    ]))
    .unwrap();
    assert!(
        line.starts_with("4 flags have no effect: --service-discovery, --selector (no Kubernetes"),
        "{line}"
    );
    assert!(line.contains("NO worker will be found by it; add workers with --worker-urls or POST /workers"));
    assert_eq!(line.matches("--selector").count(), 1);
    assert!(line.contains("; --log-dir (") && line.contains("; --oracle-password ("), "{line}");
    assert!(!line.contains("--redis-pool-max") && !line.contains("hidden") && !line.contains('\n'), "{line}");
    assert_eq!(without_effect(&given(&[(by_name("redis-pool-max"), &["16"])])), None);
    let typed = error(&[(by_name("redis-pool-max"), &["many"])]);
    assert_eq!(typed, "--redis-pool-max: expected a whole number, got many");
}
