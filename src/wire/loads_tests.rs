//! Answers of real servers, made-up ones, and what is not believed.

use proptest::prelude::*;

use super::*;

/// The body of a captured answer.
fn captured(file: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/loads/");
    let bytes = std::fs::read(format!("{path}{file}")).unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    bytes[end..].to_vec()
}

fn load(queue: u32, running: u32, kv_usage: f64, throughput: f64, most: Option<u32>) -> ServerLoad {
    ServerLoad {
        queue_depth: Some(queue),
        running: Some(running),
        kv_usage: Some(kv_usage),
        throughput_tokens_per_s: Some(throughput),
        max_running_requests: most,
    }
}

fn one(body: &str) -> Result<ServerLoad, NoLoad> {
    from_json(body.as_bytes()).map(|ranks| ranks[0].load)
}

#[test]
fn real_servers_are_understood_in_each_of_their_forms() {
    let newest = from_json(&captured("0.5.23_v1_loads.txt")).unwrap();
    assert_eq!(newest.len(), 1);
    assert_eq!((newest[0].rank, newest[0].taken_unix_s), (Some(0), Some(1_795_299_930.197_131_9)));
    assert_eq!(newest[0].load, load(0, 0, 0.0, 0.0, Some(16)));
    let rust = from_json(&captured("0.5.23-rust-server_v1_loads.txt")).unwrap();
    assert_eq!(rust[0].load, load(0, 0, 0.0, 0.0, Some(8)));
    let two = from_json(&captured("0.5.23_v1_loads_dp2.txt")).unwrap();
    assert_eq!(two.iter().map(|rank| rank.rank).collect::<Vec<_>>(), [Some(0), Some(1)]);
    assert_eq!(total(&two), load(0, 0, 0.0, 0.0, Some(16)));
    assert_eq!(from_json(&captured("0.4.9.post6_get_load.txt")), Err(NoLoad::NothingKnown));
    for (file, throughput) in [
        ("0.4.9.post6_metrics.txt", 239.335_466_808_888),
        ("0.5.23_metrics.txt", 82.131_423_708_386_65),
        ("0.5.23-rust-server_metrics.txt", 278.671_403_843_666_16),
    ] {
        let told = from_metrics(&captured(file)).unwrap();
        let expected = RankLoad { load: load(0, 0, 0.0, throughput, None), ..RankLoad::default() };
        assert_eq!(told, [expected], "{file}");
    }
    let exported = from_metrics(&captured("0.5.23_v1_loads_prometheus.txt")).unwrap();
    assert_eq!((exported[0].rank, exported[0].load.running), (Some(0), Some(0)), "underscores too");
}

#[test]
fn the_older_form_counts_those_that_wait_among_all() {
    let told = from_json(br#"[{"dp_rank":0,"num_reqs":9,"num_waiting_reqs":3,"num_tokens":4000},{"dp_rank":1,"num_reqs":2,"num_waiting_reqs":5}]"#).unwrap();
    assert_eq!((told[0].load.queue_depth, told[0].load.running), (Some(3), Some(6)));
    assert_eq!((told[1].load.queue_depth, told[1].load.running), (Some(5), None), "no fewer than none");
    assert_eq!(total(&told), ServerLoad { queue_depth: Some(8), ..ServerLoad::default() });
}

#[test]
fn a_number_that_cannot_be_is_unknown_and_leaves_the_others() {
    for (key, lies) in [
        ("num_waiting_reqs", &["-1", "4e9", "1.5", "\"3\"", "null", "true", "[1]", "1e999"][..]),
        ("num_running_reqs", &["-0.5", "4294967296", "{}"]),
        ("token_usage", &["7.3", "-0.01", "1.0001", "\"0.5\""]),
        ("gen_throughput", &["-3", "1e300", "null"]),
        ("max_running_requests", &["0", "-1", "2.5"]),
    ] {
        for lie in lies {
            let mut rank = serde_json::json!({"num_waiting_reqs":1,"num_running_reqs":2,"token_usage":0.5,"gen_throughput":3.0,"max_running_requests":4});
            rank.as_object_mut().unwrap().remove(key);
            let others = serde_json::to_string(&rank).unwrap();
            let without = one(&format!(r#"{{"loads":[{others}]}}"#)).unwrap();
            let body = format!(r#"{{"loads":[{},"{key}":{lie}}}]}}"#, &others[..others.len() - 1]);
            // A number beyond all doubles is no JSON to the reader, and then nothing is.
            let told = one(&body);
            assert!(
                told == Ok(without) || (*lie == "1e999" && told == Err(NoLoad::Unreadable)),
                "{key} {lie}: {told:?}"
            );
            assert_ne!(without, load(1, 2, 0.5, 3.0, Some(4)));
        }
    }
}

#[test]
fn what_has_another_shape_is_no_load() {
    for (body, why) in [
        ("", NoLoad::Unreadable),
        ("<html><body>busy</body></html>", NoLoad::Unreadable),
        (r#"{"loads":[{"num_waiting_reqs":NaN}]}"#, NoLoad::Unreadable),
        (r#"{"loads":[{"num_waiting_reqs":1}"#, NoLoad::Unreadable),
        ("7", NoLoad::OtherShape),
        ("{}", NoLoad::OtherShape),
        (r#"{"workers":{"http://w:1":{"loads":[]}}}"#, NoLoad::OtherShape),
        (r#"{"loads":{"num_waiting_reqs":1}}"#, NoLoad::OtherShape),
        (r#"{"loads":[7]}"#, NoLoad::OtherShape),
        (r#"{"loads":[{"dp_rank":-1,"num_waiting_reqs":1}]}"#, NoLoad::OtherShape),
        (r#"{"loads":[{"num_waiting_reqs":1},{"num_waiting_reqs":2}]}"#, NoLoad::OtherShape),
        (r#"[{"dp_rank":1,"num_waiting_reqs":1},{"dp_rank":1,"num_waiting_reqs":9}]"#, NoLoad::OtherShape),
        ("[]", NoLoad::NothingKnown),
        (r#"{"load":41}"#, NoLoad::NothingKnown),
        (r#"{"loads":[]}"#, NoLoad::NothingKnown),
        (r#"{"loads":[{"dp_rank":0,"queue":3}]}"#, NoLoad::NothingKnown),
        (r#"{"loads":[{"num_waiting_reqs":-1,"token_usage":9}]}"#, NoLoad::NothingKnown),
    ] {
        assert_eq!(from_json(body.as_bytes()), Err(why), "{body}");
    }
    let many = format!("[{}{{}}]", r#"{"num_waiting_reqs":1},"#.repeat(MAX_RANKS));
    assert_eq!(from_json(many.as_bytes()), Err(NoLoad::OtherShape));
}

#[test]
fn metrics_are_told_apart_by_rank_and_the_processes_of_a_rank_are_one() {
    let page = "# HELP sglang:num_queue_reqs Requests.\n# TYPE sglang:num_queue_reqs gauge\n\
        sglang:num_queue_reqs{dp_rank=\"0\",tp_rank=\"0\"} 3.0\n\
        sglang:num_queue_reqs{dp_rank=\"0\",tp_rank=\"1\"} 2.0\n\
        sglang:num_queue_reqs{dp_rank=\"1\",tp_rank=\"2\"} 4.0\n\
        sglang:num_queue_reqs_total{dp_rank=\"0\"} 99\n\
        sglang:num_grammar_queue_reqs{dp_rank=\"0\"} 98\n\
        sglang:token_usage{dp_rank=\"0\"} 0.25\nsglang:token_usage{dp_rank=\"1\"} 0.75\n\
        sglang:gen_throughput{dp_rank=\"0\"} NaN\nsglang:gen_throughput{dp_rank=\"0\",tp_rank=\"1\"} 5\n\
        sglang_max_running_requests{dp_rank=\"0\"} 8\n";
    let told = from_metrics(page.as_bytes()).unwrap();
    assert_eq!(told.iter().map(|rank| rank.rank).collect::<Vec<_>>(), [Some(0), Some(1)]);
    let first = ServerLoad {
        queue_depth: Some(3),
        kv_usage: Some(0.25),
        max_running_requests: Some(8),
        ..ServerLoad::default()
    };
    assert_eq!(told[0].load, first, "one process that says NaN makes the throughput unknown");
    let all = ServerLoad { queue_depth: Some(7), kv_usage: Some(0.5), ..ServerLoad::default() };
    assert_eq!(total(&told), all);
}

#[test]
fn a_page_of_metrics_without_a_load_that_can_be_is_none() {
    for (page, why) in [
        (&b"<html>\n<body>"[..], NoLoad::NothingKnown),
        (b"sglang:num_queue_reqs -1\nsglang:token_usage 7.3\n", NoLoad::NothingKnown),
        (b"sglang:num_queue_reqs 4e9\n", NoLoad::NothingKnown),
        (b"sglang:num_queue_reqs{dp_rank=\"x\"} 1\n", NoLoad::OtherShape),
        (b"vllm:num_requests_waiting 3\n", NoLoad::NothingKnown),
        (b"sglang:num_queue_reqs \xff", NoLoad::Unreadable),
    ] {
        assert_eq!(from_metrics(page), Err(why), "{}", String::from_utf8_lossy(page));
    }
    assert_eq!(total(&[]), ServerLoad::default());
}

proptest! {
    #[test]
    fn whatever_comes_is_read_without_a_panic_and_what_is_believed_can_be(
        body in prop_oneof![
            "\\PC{0,60}",
            "(sglang[:_](num_queue_reqs|token_usage|gen_throughput)(\\{dp_rank=\"[0-9]{0,2}\"?\\}?)? (-?[0-9.e]{0,6}|NaN|inf)\n){0,5}",
            "(\\[|\\{\"loads\":\\[)(\\{\"(dp_rank|num_reqs|num_waiting_reqs|token_usage)\":-?[0-9]{1,9}(\\.[0-9])?\\},?){0,3}\\]\\}?",
        ]
    ) {
        for ranks in [from_json(body.as_bytes()), from_metrics(body.as_bytes())].into_iter().flatten() {
            for load in ranks.iter().map(|rank| rank.load).chain([total(&ranks)]) {
                prop_assert!(load.kv_usage.is_none_or(|usage| (0.0..=1.0).contains(&usage)));
                prop_assert!(load.throughput_tokens_per_s.is_none_or(|rate| (0.0..=MAX_TOKENS_PER_S).contains(&rate)));
                prop_assert!([load.queue_depth, load.running].iter().flatten().all(|n| *n <= MAX_REQUESTS as u32));
            }
        }
    }
}

#[test]
fn every_generations_load_is_read_and_nothing_else_is_one() {
    assert_eq!(tokens(br#"{"load":41}"#), Some(41));
    assert_eq!(tokens(br#"[{"dp_rank":0,"num_tokens":3},{"dp_rank":1,"num_tokens":4}]"#), Some(7));
    assert_eq!(
        tokens(br#"{"version":"0.5.23","loads":[{"num_total_tokens":9,"num_used_tokens":2}]}"#),
        Some(9)
    );
    for unknown in ["{\"load\":-1}", "{\"loads\":[]}", "[]", "[{\"num_reqs\":1}]", "not json", "{}", "7", ""]
    {
        assert_eq!(tokens(unknown.as_bytes()), None, "{unknown}");
    }
}
