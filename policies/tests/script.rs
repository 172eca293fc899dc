//! A user's own policy: what it is shown, what its answers mean, and that no script, however bad, keeps a request from a worker.

use std::sync::Arc;

use milepost_policies::script::{Cause, Script, ScriptError, compile};
use milepost_policies::{
    Decision, Labels, Needs, Policy, RequestView, Time, WorkerId, WorkerView, Workers, name_hash,
};

/// The examples, by name.
const EXAMPLES: [(&str, &str); 5] = [
    ("throughput", include_str!("../examples/throughput.rhai")),
    ("shortest_wait", include_str!("../examples/shortest_wait.rhai")),
    ("prefix_or_queue", include_str!("../examples/prefix_or_queue.rhai")),
    ("memory_guard", include_str!("../examples/memory_guard.rhai")),
    ("bounded_sticky", include_str!("../examples/bounded_sticky.rhai")),
];

fn fleet(size: u32) -> Vec<WorkerView> {
    let worker = |id: u32| WorkerView {
        id: WorkerId(id),
        position: id,
        url_hash: name_hash(&id.to_le_bytes()),
        priority: 50,
        ..WorkerView::default()
    };
    (0..size).map(worker).collect()
}

fn script(text: &str) -> Script {
    Script::new("script:test", compile(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

fn refused(text: &str) -> ScriptError {
    compile(text).err().unwrap_or_else(|| panic!("was taken:\n{text}"))
}

fn ask(script: &mut Script, request: &RequestView<'_>, fleet: &[WorkerView]) -> Decision {
    let workers = Workers::new(fleet).expect("not empty");
    let mut decision = Decision::default();
    decision.clear(workers.len());
    script.choose(Time { us: 1 }, request, &workers, &mut decision);
    decision
}

fn asked(text: &str, fleet: &[WorkerView]) -> Decision {
    ask(&mut script(text), &RequestView::default(), fleet)
}

#[test]
fn the_highest_score_is_chosen_and_ties_go_to_the_least_loaded() {
    let mut fleet = fleet(4);
    for (worker, in_flight) in fleet.iter_mut().zip([5, 2, 1, 9]) {
        worker.in_flight_requests = in_flight;
    }
    let by_load = asked("fn score(request, worker) { worker.in_flight }", &fleet);
    assert_eq!((by_load.chosen(), by_load.reason()), (Some(3), "script"));
    assert_eq!(by_load.scores(), [Some(5.0), Some(2.0), Some(1.0), Some(9.0)]);
    let tie = asked("fn score(request, worker) { if worker.in_flight < 9 { 1.5 } else { 0 } }", &fleet);
    assert_eq!(tie.chosen(), Some(2));
    let not_that_one = asked("fn score(r, w) { if w.in_flight == 9 { return (); } w.in_flight }", &fleet);
    assert_eq!((not_that_one.chosen(), not_that_one.scores()[3]), (Some(0), None));
}

#[test]
fn choose_sees_all_workers_and_gives_an_index() {
    let fleet = fleet(5);
    let last = asked("fn choose(request, workers) { workers[workers.len() - 1].id }", &fleet);
    assert_eq!((last.chosen(), last.reason()), (Some(4), "script"));
    // As many as there may be.
    let many = self::fleet(4096);
    let text = "fn choose(r, workers) { let w = workers[4095]; w.position - r.attempts }";
    let request = RequestView { attempts: 5, ..RequestView::default() };
    assert_eq!(ask(&mut script(text), &request, &many).chosen(), Some(4090));
}

/// Each name, what a script is given for it, and what where nothing is known.
#[test]
fn the_names_are_those_of_the_views_and_what_is_not_known_is_no_number() {
    let known = WorkerView {
        id: WorkerId(3),
        position: 4,
        url_hash: u64::MAX,
        in_flight_requests: 5,
        last_chosen_seq: 6,
        priority: 7,
        prefix_match_bytes: Some(8),
        prefix_match_tokens: Some(9),
        prefilling_requests: Some(10),
        decoding_requests: Some(11),
        outstanding_prefill_tokens: Some(12),
        outstanding_decode_tokens: Some(13),
        prefill_rate_tokens_per_s: Some(14.0),
        decode_rate_tokens_per_s: Some(15.0),
        answered_tokens_per_s: Some(16.0),
        latency_ewma_us: Some(17e6),
        ttft_ewma_us: Some(18e6),
        cache_hit_rate: Some(19.0),
        queue_depth: Some(20),
        running: Some(21),
        kv_usage: Some(22.0),
        throughput_tokens_per_s: Some(23.0),
        server_load_age_us: Some(24_000_000),
        max_running_requests: Some(25),
        prefill_wait_us: Some(26e6),
    };
    let names = [
        ("id", 3),
        ("position", 4),
        ("url_hash", -1),
        ("in_flight", 5),
        ("last_chosen_seq", 6),
        ("priority", 7),
        ("prefix_match_bytes", 8),
        ("prefix_match_tokens", 9),
        ("prefilling", 10),
        ("decoding", 11),
        ("outstanding_prefill_tokens", 12),
        ("outstanding_decode_tokens", 13),
        ("prefill_rate", 14),
        ("decode_rate", 15),
        ("answered_throughput", 16),
        ("latency", 17),
        ("ttft", 18),
        ("cache_hit_rate", 19),
        ("queue_depth", 20),
        ("running", 21),
        ("memory_usage", 22),
        ("server_throughput", 23),
        ("throughput", 23),
        ("load_age", 24),
        ("max_running", 25),
        ("prefill_wait", 26),
    ];
    let readme = include_str!("../README.md");
    for (name, value) in names {
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in README.md");
        let mut script = script(&format!("fn score(request, worker) {{ worker.{name} ?? -1000 }}"));
        let decision = ask(&mut script, &RequestView::default(), &[known, WorkerView::default()]);
        assert_eq!(decision.scores()[0], Some(f64::from(value)), "{name}");
        let always_known =
            ["id", "position", "url_hash", "in_flight", "last_chosen_seq", "priority"].contains(&name);
        assert_eq!(decision.scores()[1], Some(if always_known { 0.0 } else { -1000.0 }), "{name}");
    }
    // This router's own count stands in for a server that does not tell.
    let mute = WorkerView { throughput_tokens_per_s: None, ..known };
    assert_eq!(asked("fn score(r, w) { w.throughput }", &[mute]).scores(), [Some(16.0)]);
    // What is no number is not known either.
    let odd = WorkerView { latency_ewma_us: Some(f64::NAN), kv_usage: Some(f64::INFINITY), ..known };
    let text = "fn score(r, w) { if known(w.latency) || known(w.memory_usage) { 1 } else { 2 } }";
    assert_eq!(asked(text, &[odd]).scores(), [Some(2.0)]);
}

#[test]
fn labels_are_a_map_that_is_what_the_operator_said_last() {
    let fleet = fleet(3);
    let racks =
        |racks: [&str; 3]| racks.map(|rack| Arc::new(Labels::from([("rack".to_owned(), rack.to_owned())])));
    for text in [
        r#"fn score(r, w) { if w.labels.get("rack") == "b" { 1 } else { w.labels.get("gpu") ?? 0 } }"#,
        r#"fn choose(r, ws) { let i = 0; for w in ws { if w.labels.get("rack") == "b" { return i; } i += 1; } 0 }"#,
    ] {
        let mut script = script(text);
        for (labels, chosen) in [(racks(["a", "b", "c"]), 1), (racks(["a", "c", "b"]), 2)] {
            let workers = Workers::new(&fleet).expect("not empty").with_labels(&labels);
            let mut decision = Decision::default();
            decision.clear(workers.len());
            script.choose(Time::default(), &RequestView::default(), &workers, &mut decision);
            assert_eq!((decision.chosen(), script.complaint()), (Some(chosen), None), "{text}");
        }
        assert_eq!(ask(&mut script, &RequestView::default(), &fleet).chosen(), Some(0), "nobody has any");
    }
}

#[test]
fn a_request_is_shown_too() {
    let request = RequestView {
        seq: 1,
        prompt_bytes: 2,
        prompt_tokens: Some(3),
        max_new_tokens: Some(4),
        stream: true,
        model: Some("m"),
        routing_key: Some("k"),
        target: Some(5),
        client_hash: Some(6),
        attempts: 7,
        ..RequestView::default()
    };
    let text = r#"fn score(q, w) {
        let words = q.model == "m" && q.routing_key == "k" && q.stream;
        let sum = q.seq + q.prompt_bytes + q.prompt_tokens + q.max_new_tokens + q.target + q.client_hash + q.attempts;
        if words { sum } else { -1 }
    }"#;
    assert_eq!(ask(&mut script(text), &request, &fleet(1)).scores(), [Some(28.0)]);
    let unknown = "fn score(q, w) { let n = 0;
        for x in [q.prompt_tokens, q.max_new_tokens, q.model, q.routing_key, q.target, q.client_hash] {
            if !known(x) { n += 1; }
        } n }";
    assert_eq!(asked(unknown, &fleet(1)).scores(), [Some(6.0)]);
}

#[test]
fn only_what_a_script_names_has_to_be_found_out() {
    let needs = |text: &str| script(text).needs();
    assert_eq!(needs("fn score(r, w) { w.in_flight } // w.queue_depth, w.latency"), Needs::default());
    assert_eq!(
        needs("fn score(r, w) { helper(w) } fn helper(x) { -(x.queue_depth ?? 0) }"),
        Needs { server_loads: true, ..Needs::default() }
    );
    assert_eq!(
        needs(r#"fn score(r, w) { w["prefix_match_tokens"] ?? 0 }"#),
        Needs { prefix_match: true, engine_text: true, estimates: true, ..Needs::default() }
    );
    assert_eq!(
        needs("fn score(r, w) { w.latency; w.throughput; r.client_hash; r.target; 1 }"),
        Needs { estimates: true, server_loads: true, client_hash: true, target: true, ..Needs::default() }
    );
}

#[test]
fn what_cannot_be_a_script_is_refused_with_the_place_and_what_to_do() {
    for (text, parts) in [
        ("fn score(request, worker) {\n  1 +\n}", &["line 3, column 1"][..]),
        (
            "fn score(request, worker) { latency }",
            &["line 1, column 29", "ndefined variable: latency", "its arguments"],
        ),
        ("const A = 1;\nfn score(r, w) { 1 }", &["line 1", "only functions", "fn name()"]),
        ("fn score(r, w) { 1 }\nlet x = 5;", &["line 2", "only functions"]),
        ("fn score(worker) { 1 }", &["fn score has 1 parameters, expected 2", "a worker"]),
        (
            "fn rank(request, worker) { 1 }",
            &["fn score(request, worker)", "fn choose(request, workers)", "neither"],
        ),
        ("", &["neither"]),
        ("fn score(r, w) { 1 } fn choose(r, w) { 1 }", &["several"]),
        ("fn score(r, w) { import \"x\" as y; 1 }", &["import", "line 1, column 18", "compute"]),
        ("fn score(r, w) { eval(\"1\") }", &["eval", "compute"]),
        ("fn score(r, w) { print(1); 1 }", &["print", "compute"]),
        ("fn score(r, w) { debug(1); 1 }", &["debug", "compute"]),
        ("\u{0}\u{fffd}", &["line 1"]),
    ] {
        let error = refused(text).to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} in {error:?}");
        }
    }
    assert!(refused(&" ".repeat(70_000)).to_string().contains("65536"));
    let deep = format!("fn score(r, w) {{ {}1{} }}", "(".repeat(5_000), ")".repeat(5_000));
    refused(&deep);
    refused(&format!("fn score(r, w) {{ {}1{} }}", "{".repeat(5_000), "}".repeat(5_000)));
    let many: Vec<String> = (0..100).map(|n| format!("fn f{n}() {{ 1 }}\n")).collect();
    refused(&many.concat());
}

/// Bad scripts, why they are passed over, and a part of what their author is told.
const BAD: &[(&str, Cause, &str)] = &[
    ("loop { }", Cause::Operations, "operations"),
    ("let x = 0; while true { x += 1; } x", Cause::Operations, "operations"),
    ("loop { let copy = w; }", Cause::Operations, "operations"),
    ("let a = []; loop { a.push(1); }", Cause::Size, "array"),
    ("let a = [1]; loop { a += a; }", Cause::Size, "array"),
    ("let s = \"ab\"; loop { s += s; }", Cause::Size, "string"),
    ("let m = #{}; loop { m = #{ a: m, b: m }; }", Cause::Size, "map"),
    ("score(r, w)", Cause::Depth, ""),
    ("throw \"no\"", Cause::Error, "no"),
    ("0.0 / 0.0", Cause::NotFinite, "NaN"),
    ("1.0 / 0.0", Cause::NotFinite, "inf"),
    ("1 / 0", Cause::Error, "zero"),
    ("9223372036854775807 + 1 + r.seq", Cause::Error, "overflow"),
    ("\"fast\"", Cause::WrongType, "string"),
    ("true", Cause::WrongType, "bool"),
    ("w", Cause::WrongType, "map"),
    ("[1]", Cause::WrongType, "array"),
    ("()", Cause::Nobody, "()"),
    ("w.latancy", Cause::Error, "latancy"),
    ("w.latency * 2", Cause::Error, "??"),
    ("no_such_function(1)", Cause::Error, "no_such_function"),
    ("sleep(1)", Cause::Error, "sleep"),
    ("timestamp()", Cause::Error, "timestamp"),
    ("let a = [3, 1, 2]; a[7]", Cause::Error, "index"),
];

#[test]
fn whatever_a_script_does_the_shortest_queue_takes_the_request_and_the_reason_says_why() {
    let mut fleet = fleet(3);
    for (worker, in_flight) in fleet.iter_mut().zip([2, 1, 3]) {
        worker.in_flight_requests = in_flight;
    }
    for (body, cause, told) in BAD {
        let mut script = script(&format!("fn score(r, w) {{ {body} }}"));
        let decision = ask(&mut script, &RequestView { seq: 1, ..RequestView::default() }, &fleet);
        let complaint = script.complaint().unwrap_or_default().to_owned();
        assert_eq!((decision.chosen(), decision.reason()), (Some(1), cause.reason()), "{body}: {complaint}");
        assert_eq!(decision.scores(), [Some(-2.0), Some(-1.0), Some(-3.0)], "{body}");
        let said = complaint.to_lowercase();
        assert!(said.contains(&told.to_lowercase()) && said.len() < 500, "{body}: {complaint}");
    }
    for (body, cause) in [
        ("3", Cause::UnknownWorker),
        ("-1", Cause::UnknownWorker),
        ("1.0", Cause::WrongType),
        ("()", Cause::Nobody),
        ("workers[3].id", Cause::Error),
        ("loop { }", Cause::Operations),
        ("choose(request, workers)", Cause::Depth),
    ] {
        let decision = asked(&format!("fn choose(request, workers) {{ {body} }}"), &fleet);
        assert_eq!((decision.chosen(), decision.reason()), (Some(1), cause.reason()), "{body}");
    }
}

#[test]
fn the_odd_corners_of_the_language_choose_somebody_too() {
    for body in [
        "[1, 2].map(|x| x + 1)[0]",
        "Fn(\"score\").call(r, w)",
        "let f = |x| f.call(x); f.call(1)",
        "[3, 1].sort(|a, b| b - a); 1",
        "let a = [3, 1]; a.sort(|a, b| { loop { } }); 1",
        "loop { try { throw 1; } catch { } }",
        "try { loop { } } catch { } 1",
        "try { score(r, w) } catch { } 1",
        "switch w.id { 0 => 1, _ => 2 }",
        "let a = []; a.pad(100_000_000, 0); 1",
        "let a = []; a.len = 5; a[4_000_000_000] = 1; 1",
        "w.a.b.c = 1; 1",
        "r[w] = w; 1",
        "let x = `${w}${r}`; x.len",
        "#{ a: #{ b: [w, w] } }.a.b[1].id",
        "1 << 70",
        "-9223372036854775808 - 1",
        "abs(-9223372036854775807 - 1)",
        "2.0 ** 1e300",
        "1.0 % 0.0",
        "sqrt(-1.0)",
        "to_int(1e300)",
        "parse_int(\"99999999999999999999\")",
        "let x = 1; { let x = 2; } if x == 1 { return w.position; } else { 5 }",
        "this",
        "type_of(w)",
        "is_def_fn(\"score\", 2)",
        "call(\"score\", r, w)",
        "let eval_me = 1; eval_me",
        "do { break 3; } while true",
        "loop { break 3; }",
        "for (x, i) in [1, 2] { } 1",
        "w.keys().len()",
        "w == r",
    ] {
        for text in [format!("fn score(r, w) {{ {body} }}"), format!("fn choose(r, w) {{ {body} }}")] {
            // What is refused is refused.
            if let Ok(compiled) = compile(&text) {
                let mut script = Script::new("script:odd", compiled);
                let decision = ask(&mut script, &RequestView { seq: 1, ..RequestView::default() }, &fleet(3));
                assert!(decision.chosen().is_some(), "{text}");
                assert_eq!(decision.fallback().is_some(), script.complaint().is_some(), "{text}");
            }
        }
    }
}

#[test]
fn a_complaint_says_where_and_ends_with_the_next_good_decision() {
    let mut script =
        script("fn score(request, worker) {\n    if request.attempts > 0 { throw \"again\"; }\n    1\n}");
    let bad = RequestView { attempts: 1, ..RequestView::default() };
    assert_eq!(ask(&mut script, &bad, &fleet(2)).reason(), Cause::Error.reason());
    assert!(
        script.complaint().is_some_and(|told| told.contains("again") && told.contains("line 2, position 31"))
    );
    assert_eq!(ask(&mut script, &RequestView::default(), &fleet(2)).reason(), "script");
    assert_eq!(script.complaint(), None);
}

#[test]
fn a_script_keeps_nothing_from_one_run_to_the_next() {
    for spoil in [
        "w.latency = 5; w.extra = 1;",
        "r.attempts = 99;",
        "w.clear();",
        "w = 3;",
        "r = ();",
        "let left = 1; let over = 2;",
    ] {
        let text = format!(
            "fn score(r, w) {{ let n = r.attempts * 10 + w.in_flight; let l = w.latency ?? 0; {spoil} n + l }}"
        );
        let mut script = script(&text);
        for _ in 0..3 {
            let mut fleet = fleet(2);
            fleet[1].in_flight_requests = 2;
            let request = RequestView { attempts: 1, ..RequestView::default() };
            let decision = ask(&mut script, &request, &fleet);
            assert_eq!(decision.scores(), [Some(10.0), Some(12.0)], "{spoil} {:?}", script.complaint());
        }
    }
}

#[test]
fn the_body_is_found_whatever_stands_around_it() {
    for text in [
        "fn score(r, w) { 7 }",
        "// fn score(r, w) { 1 }\n/* } { /* nested */ */ fn a() { \"}\" }\r\n\tfn score(r, w)\r\n{ let x = \"{ü}\"; `${7}` ; a(); 7 }\nfn z() { 3 }",
        "fn helper(x) { x + 1 } fn score(request, worker) { if false { return 1; } return helper(6); } // }",
        "fn é() { 1 }".replace('é', "e").as_str(),
    ] {
        if text.contains("score") {
            assert_eq!(asked(text, &fleet(1)).scores(), [Some(7.0)], "{text}");
        } else {
            refused(text);
        }
    }
}

#[test]
fn a_script_that_cannot_do_without_what_is_not_known_is_told_so_when_it_is_loaded() {
    let warnings = |text: &str| compile(text).unwrap_or_else(|error| panic!("{error}")).warnings().to_vec();
    assert_eq!(warnings("fn score(r, w) { w.throughput ?? 1.0 }"), Vec::<String>::new());
    let one = warnings("fn score(r, w) { 1.0 / w.latency }");
    assert!(one.len() == 1 && one[0].contains("nothing known") && one[0].contains("??"), "{one:?}");
    let misspelt = warnings("fn score(r, w) { w.latancy }");
    assert!(misspelt.len() == 1 && misspelt[0].contains("every value known"), "{misspelt:?}");
    assert_eq!(warnings("fn score(r, w) { loop {} }").len(), 1);
}

#[test]
fn the_examples_route_whatever_is_known_and_can_be_copied() {
    for (name, text) in EXAMPLES {
        let compiled = compile(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(compiled.warnings(), Vec::<String>::new(), "{name}");
        let mut script = Script::new("script:example", compiled);
        for size in [1, 2, 8, 64] {
            let mut fleet = fleet(size);
            let mut counts = vec![0; fleet.len()];
            for seq in 1..=512 {
                let request = RequestView { seq, client_hash: Some(seq * 31), ..RequestView::default() };
                let decision = ask(&mut script, &request, &fleet);
                assert_eq!(decision.reason(), "script", "{name} {:?}", script.complaint());
                let chosen = decision.chosen().expect("chose");
                counts[chosen] += 1;
                fleet[chosen].in_flight_requests += 1;
                fleet[chosen].last_chosen_seq = seq;
            }
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(least > Some(&0) && most <= Some(&(2 * 512 / size + 2)), "{name}: {counts:?}");
        }
    }
}

#[test]
fn the_page_shows_the_first_example_as_it_is() {
    assert!(include_str!("../README.md").contains(&format!("```rhai\n{}```", EXAMPLES[0].1)));
}

#[test]
fn the_first_example_is_throughput_over_latency_and_queue() {
    let mut fleet = fleet(3);
    for (worker, (throughput, latency_s, queue)) in
        fleet.iter_mut().zip([(1000.0, 2.0, 4), (800.0, 1.0, 4), (1000.0, 1.0, 1)])
    {
        worker.throughput_tokens_per_s = Some(throughput);
        worker.latency_ewma_us = Some(latency_s * 1e6);
        worker.queue_depth = Some(queue);
    }
    let decision = asked(EXAMPLES[0].1, &fleet);
    assert_eq!(
        (decision.chosen(), decision.scores()),
        (Some(2), &[Some(100.0), Some(160.0), Some(500.0)][..])
    );
}

#[test]
fn a_script_that_runs_on_is_not_asked_for_a_while_and_then_again() {
    let fleet = fleet(2);
    let mut script = script("fn score(r, w) { if r.seq < 10 { loop { } } 1 }");
    let mut reasons = (1..=1_004)
        .map(|seq| ask(&mut script, &RequestView { seq, ..RequestView::default() }, &fleet).reason());
    let before: Vec<_> = reasons.by_ref().take(1_003).collect();
    assert!(before.iter().all(|reason| *reason == Cause::Operations.reason()), "{before:?}");
    assert_eq!(reasons.next(), Some("script"));
}

#[test]
fn what_no_limit_on_sizes_sees_is_no_part_of_the_language() {
    assert!(compile("fn score(r, w) { let f = Fn(\"g\"); loop { f = f.curry(f); } }").is_err());
}
