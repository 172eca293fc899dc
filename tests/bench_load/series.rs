//! Several runs: a search in virtual time before a server whose limit is known, and sweeps as a process.

use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::schedule::Rate;
use milepost::load::{LoadConfig, run};
use milepost::report::json::run_json;
use milepost::report::{Rating, Survey};
use milepost::series::{Limits, Slo, find_rate};
use serde_json::{Value, json};

use crate::cli::{Folder, SMALL, bench, output, serving, text};
use crate::server::{Server, Step, about, stream};
use crate::{config, data};

/// One request at a time, 50 ms each, first come first served: 20 a second and no more.
fn one_at_a_time(clock: &Clock) -> Server {
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let (time, free_ns) = (clock.clone(), Arc::new(Mutex::new(0_u64)));
    Server::new(clock, move |got| {
        about(got).unwrap_or_else(|| {
            let now_ns = time.mono_ns();
            let mut free_ns = free_ns.lock().unwrap();
            *free_ns = now_ns.max(*free_ns) + 50_000_000;
            let wait = Step::Sleep(Duration::from_nanos(*free_ns - now_ns));
            std::iter::once(wait).chain(stream(&events, Duration::ZERO)).collect()
        })
    })
}

fn at(per_s: f64, number: usize) -> LoadConfig {
    let seconds = 60.0;
    LoadConfig {
        arrivals: Rate::PerSecond(per_s).into(),
        seed: 1 + number as u64,
        ..config("http://pipe:1", ((per_s * seconds) as usize).max(100))
    }
}

#[tokio::test(start_paused = true)]
async fn the_highest_rate_of_a_server_is_found() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let context = one_at_a_time(&clock).context();
    let limits = Limits { first_per_s: 2.0, precision: 0.1, probes: 12, time_s: 1e9 };
    let slo = Slo::parse("p99 ttft_from_schedule<500ms").unwrap();
    let answer = find_rate(
        limits,
        &slo,
        || 0.0,
        async |per_s, number| {
            let report = run(at(per_s, number), context.clone()).await?;
            Ok::<_, milepost::load::LoadError>(run_json(&report, &Survey::of(&report, &[]), &Vec::new()))
        },
    )
    .await
    .unwrap();
    let told: Vec<_> = answer.curve().iter().map(|p| (p.per_s, p.word.text())).collect();
    let (Some(good), Some(bad)) = (answer.good_per_s, answer.bad_per_s) else { panic!("{told:?}") };
    assert!((8.0..20.0).contains(&good) && bad > good && bad <= good * 1.11, "{told:?}");
    assert!(bad <= 24.0, "{told:?}");
}

/// Answers at once, and 300 ms late while the last twenty requests came in less than 70 ms: 286 a second.
fn slow_above_286(clock: &Clock) -> Server {
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let (time, came_ns) = (clock.clone(), Arc::new(Mutex::new(Vec::<u64>::new())));
    Server::new(clock, move |got| {
        about(got).unwrap_or_else(|| {
            let mut came_ns = came_ns.lock().unwrap();
            came_ns.push(time.mono_ns());
            let twenty_ns = came_ns.iter().nth_back(20).map(|first_ns| time.mono_ns() - first_ns);
            let late = if twenty_ns.is_some_and(|ns| ns < 70_000_000) { 300 } else { 0 };
            let wait = Step::Sleep(Duration::from_millis(late));
            std::iter::once(wait).chain(stream(&events, Duration::ZERO)).collect()
        })
    })
}

/// Puts into the line of each run what a machine with nothing else to do has of a server that is slow above 286 a second.
fn settle(folder: &Folder) {
    let path = "milepost-bench/find-rate.jsonl";
    let lines = folder.read(path);
    let settled = lines.lines().filter_map(|line| {
        let mut run: Value = serde_json::from_str(line).unwrap();
        let per_s = run["series"]["point"]["request_rate"].as_f64()?;
        run["verdict"] = json!({"client": "VALID", "server": "VALID", "steady": true, "checks": []});
        run["metrics"]["median_ttft_client_ms"] = if per_s > 286.0 { 300.0 } else { 1.0 }.into();
        Some(format!("{run}\n"))
    });
    let settled: String = settled.collect();
    std::fs::write(folder.0.join(path), settled).unwrap();
}

/// The search again and again over what it has made, until it makes no run more: its answer is then that of settled lines, on however
/// busy a machine.
async fn answer_of_settled_runs(folder: &Folder, args: &str, slo: &str) -> Output {
    for _ in 0..8 {
        settle(folder);
        let mut command = bench(folder, args);
        command.arg(slo);
        let out = output(command).await;
        if !text(&out.stderr).contains(": begins\n") {
            return out;
        }
    }
    panic!("each call made a run more");
}

/// In real time, as a process. Half of all requests are far on one side of the promise, so that a stall of this machine decides
/// little: it may make a good rate bad, or the client's own lateness is told instead of a bracket.
#[tokio::test]
async fn a_search_in_real_time_ends_in_a_bracket_around_the_limit() {
    let (server, folder) = (slow_above_286(&Clock::system()), Folder::new("find-rate"));
    let args = format!(
        "--base-url {} --dataset-name random-ids --random-input-len 6 --random-output-len 8 --random-range-ratio 1 --arrivals constant \
         --request-rate 200 --duration 100ms --find-rate --find-rate-precision 1 --disable-tqdm --slo",
        server.listen().await
    );
    let mut command = bench(&folder, &args);
    command.arg("p50 ttft_client<100ms");
    let out = output(command).await;
    let (told, errors) = (text(&out.stdout), text(&out.stderr));
    if out.status.code() == Some(3) {
        assert!(errors.contains("no bracket: the client cannot make"), "{errors}{told}");
    } else {
        assert_eq!(out.status.code(), Some(0), "{errors}{told}");
        let (good, bad) = bracket(&folder);
        assert!(good <= 200.0 && bad <= 400.0 && bad <= 2.0 * good, "{good} {bad}");
        assert!(told.contains(&format!("kept at:      {good}/s\nnot kept at:  {bad}/s\n")), "{told}");
    }

    let out = answer_of_settled_runs(&folder, &args, "p50 ttft_client<100ms").await;
    let (told, errors) = (text(&out.stdout), text(&out.stderr));
    assert_eq!((out.status.code(), bracket(&folder)), (Some(0), (200.0, 400.0)), "{errors}{told}");
    assert!(told.contains("kept at:      200/s\nnot kept at:  400/s\n"), "{told}");
}

/// What a search that found one wrote last.
fn bracket(folder: &Folder) -> (f64, f64) {
    let last = folder.read("milepost-bench/find-rate.jsonl").lines().last().unwrap().to_owned();
    let answer: Value = serde_json::from_str(&last).unwrap();
    let rate = |name: &str| answer["find_rate"][name].as_f64().unwrap();
    (rate("good_request_rate"), rate("bad_request_rate"))
}

/// The rate of sessions is that of their beginnings: with two users no rate above two in the run's time is made.
#[tokio::test]
async fn a_search_says_that_there_are_too_few_sessions() {
    let (server, folder) = (serving(), Folder::new("few-sessions"));
    let args = format!(
        "--base-url {} --dataset-name multi-turn --mt-users 2 --mt-turns 1 --mt-system-prompt-len 4 --mt-question-len 4 \
         --mt-output-len 8 --request-rate 1000 --duration 100ms --find-rate --disable-tqdm --slo",
        server.listen().await
    );
    let mut command = bench(&folder, &args);
    command.arg("p50 ttft_client<100ms");
    let out = output(command).await;
    let (told, errors) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(2), "{errors}{told}");
    assert!(errors.contains("--find-rate at 1000/s: the data set has 2 to begin, and "), "{errors}");
    assert!(server.got.lock().unwrap().is_empty(), "nothing was sent");
}

/// 150 users are enough for the first rate and not for the next, of which no request is sent.
#[tokio::test]
async fn a_search_ends_before_a_run_for_which_the_data_set_is_too_small() {
    let (server, folder) = (serving(), Folder::new("few-users"));
    let args = format!(
        "--base-url {} --dataset-name multi-turn --mt-users 150 --mt-turns 1 --mt-system-prompt-len 4 --mt-question-len 4 \
         --mt-output-len 8 --arrivals constant --request-rate 200 --duration 500ms --find-rate --disable-tqdm --warmup-requests 0 --slo",
        server.listen().await
    );
    let mut command = bench(&folder, &args);
    command.arg("p50 ttft_client<60s");
    let out = output(command).await;
    let (told, errors) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(3), "{errors}{told}");
    let sent = server.load().len();
    assert!(sent <= 300 && sent % 100 == 0, "{sent} requests: each run that was made had 100 to begin");

    let out = answer_of_settled_runs(&folder, &args, "p50 ttft_client<60s").await;
    let (told, errors) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(3), "{errors}{told}");
    let why = "no bracket: at 400/s: the data set has 150 to begin, and 200 are due";
    assert!(errors.contains(why), "{errors}{told}");
    assert_eq!(server.load().len(), sent, "the first rate is known, and of the next none is sent");
}

/// Whatever flag with a number is swept: each run can be asked for again by its own file.
#[tokio::test]
async fn any_flag_with_a_number_is_swept_and_its_runs_can_be_made_again() {
    let (server, folder) = (serving(), Folder::new("swept"));
    let url = server.listen().await;
    let gsp = "--dataset-name generated-shared-prefix --gsp-prompts-per-group 1 --gsp-system-prompt-len 4 --gsp-question-len 3 \
               --gsp-output-len 8 --disable-tqdm --sweep gsp-num-groups=1,3";
    let done = output(bench(&folder, &format!("--base-url {url} {gsp}"))).await;
    assert!(matches!(done.status.code(), Some(0 | 3)), "{}", text(&done.stderr));
    let lines = folder.read("milepost-bench/sweep.jsonl");
    let runs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<u64> = runs.iter().map(|run| run["metrics"]["requests"].as_u64().unwrap()).collect();
    assert_eq!(
        (requests, &runs[1]["series"]["point"]["point"]),
        (vec![1, 3], &Value::from("gsp-num-groups=3"))
    );
    let again = output(bench(&folder, "--config milepost-bench/latest/run.json --output-dir again")).await;
    assert!(matches!(again.status.code(), Some(0 | 3)), "{}", text(&again.stderr));
    let told: Value = serde_json::from_str(&folder.read("again/latest/run.json")).unwrap();
    assert_eq!(told["prompts_xxh3"], runs[1]["prompts_xxh3"]);
}

/// What a run of a series was asked can be asked again, though another shape was typed than the sweep needs.
#[tokio::test]
async fn a_run_of_a_sweep_of_burstiness_can_be_made_again() {
    let (server, folder) = (serving(), Folder::new("burstiness"));
    let url = server.listen().await;
    let args = format!(
        "--base-url {url} {SMALL} --request-rate 200 --arrivals poisson --sweep burstiness=0.5 --disable-tqdm"
    );
    let first = output(bench(&folder, &args)).await;
    assert!(matches!(first.status.code(), Some(0 | 3)), "{}", text(&first.stderr));
    let again = "--config milepost-bench/latest/run.json --output-dir again";
    let again = output(bench(&folder, again)).await;
    assert!(matches!(again.status.code(), Some(0 | 3)), "{}", text(&again.stderr));
}

#[tokio::test(start_paused = true)]
async fn a_saturated_run_is_invalid_and_an_easy_one_valid() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let mut told = Vec::new();
    for per_s in [10.0, 30.0] {
        let context = one_at_a_time(&clock).context();
        let report = run(at(per_s, 0), context).await.unwrap();
        let Survey { verdict, .. } = Survey::of(&report, &[]);
        let reasons: Vec<String> = verdict.reasons().iter().map(|c| c.text().to_owned()).collect();
        told.push((verdict.rating(), verdict.steady(), reasons));
    }
    assert_eq!((told[0].0, told[0].1), (Rating::Valid, true), "{told:?}");
    assert_eq!((told[1].0, told[1].1), (Rating::Invalid, false), "{told:?}");
    assert!(told[1].2[0].starts_with("saturated, no steady state: TTFT"), "{told:?}");
}

#[tokio::test]
async fn a_sweep_is_one_table_and_goes_on_where_it_ended() {
    let (server, folder) = (serving(), Folder::new("sweep"));
    let args = format!("--base-url {} {SMALL} --repeats 2 --disable-tqdm", server.listen().await);
    let first = output(bench(&folder, &format!("{args} --sweep max-concurrency=1,2"))).await;
    // On a machine that is busy a run may be SUSPECT.
    assert!(matches!(first.status.code(), Some(0 | 3)), "{}", text(&first.stderr));
    let lines = |folder: &Folder| -> Vec<Value> {
        folder.read("milepost-bench/sweep.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let told: Vec<String> = lines(&folder).iter().map(|l| l["series"]["point"].to_string()).collect();
    let point =
        |places: u32, repeat: u32| format!("{{\"point\":\"max-concurrency={places}\",\"repeat\":{repeat}}}");
    assert_eq!(told, [point(1, 1), point(2, 1), point(1, 2), point(2, 2)]);
    let table = text(&first.stdout);
    assert_eq!(table.matches("2 runs, ±95 %").count(), 2, "{table}");
    assert!(table.contains("2 VALID") || table.contains("1 VALID, 1 SUSPECT"), "{table}");

    // One more value: only that one is made.
    let sent = server.load().len();
    let more = output(bench(&folder, &format!("{args} --sweep max-concurrency=1,2,3"))).await;
    assert!(matches!(more.status.code(), Some(0 | 3)), "{}", text(&more.stderr));
    assert_eq!(text(&more.stderr).matches("made before").count(), 4, "{}", text(&more.stderr));
    assert_eq!((lines(&folder).len(), server.load().len()), (6, sent + 2 * 3));
    assert_eq!(text(&more.stdout).matches("2 runs, ±95 %").count(), 3);
}

#[tokio::test]
async fn two_flags_are_swept_as_a_grid_or_one_at_a_time() {
    let (server, folder) = (serving(), Folder::new("grid"));
    let url = server.listen().await;
    let args = format!(
        "--base-url {url} {SMALL} --max-concurrency 2 --disable-tqdm --sweep max-concurrency=1,2 --sweep random-output-len=4,8"
    );
    let grid = output(bench(&folder, &args)).await;
    let points: Vec<String> = folder
        .read("milepost-bench/sweep.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["series"]["point"]["point"].to_string())
        .collect();
    let point = |places: u32, tokens: u32| format!("\"max-concurrency={places} random-output-len={tokens}\"");
    assert_eq!(points, [point(1, 4), point(1, 8), point(2, 4), point(2, 8)], "{}", text(&grid.stderr));
    let table = text(&grid.stdout);
    assert!(table.lines().any(|l| l.starts_with("max-concurrency=2 random-output-len=4 ")), "{table}");

    // The same runs, as 2 places and 8 tokens are what is given besides: none is made again.
    let sent = server.load().len();
    let one = output(bench(&folder, &format!("{args} --sweep-mode one-at-a-time"))).await;
    assert_eq!(text(&one.stderr).matches("made before").count(), 4, "{}", text(&one.stderr));
    assert_eq!(server.load().len(), sent);
    let table = text(&one.stdout);
    let names = ["max-concurrency=1 ", "max-concurrency=2 ", "random-output-len=4 ", "random-output-len=8 "];
    assert!(names.iter().all(|name| table.lines().any(|line| line.starts_with(name))), "{table}");
}

/// What a run was asked is in its files; a file of flags is a beginning that may be changed.
#[tokio::test]
async fn a_run_is_made_again_from_its_own_json() {
    let (server, folder) = (serving(), Folder::new("again"));
    let url = server.listen().await;
    let toml = format!(
        "base-url = \"{url}\"\ndataset-name = \"random-ids\"\nnum-prompts = 20\nrandom_input_len = 6\nrandom-output-len = 8\n\
         random-range-ratio = 1\nrequest-rate = 200\narrivals = \"gamma\"\nburstiness = 0.5\nseed = 5\n"
    );
    std::fs::write(folder.0.join("flags.toml"), toml).unwrap();
    let first =
        output(bench(&folder, "--config flags.toml --seed 9 --header x-key=sk-secret --output-dir first"))
            .await;
    assert!(first.status.success(), "{}", text(&first.stderr));
    let again = "--config first/latest/run.json --output-dir again --header x-key=sk-secret";
    let again = output(bench(&folder, again)).await;
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("the value of header x-key was not written down"));
    let [a, b] = ["first", "again"].map(|run| -> Value {
        serde_json::from_str(&folder.read(&format!("{run}/latest/run.json"))).unwrap()
    });
    assert!(!a.to_string().contains("sk-secret"));
    assert_eq!((&a["config"]["seed"], &a["metrics"]["requests"]), (&Value::from(9), &Value::from(20)));
    for same in ["prompts_xxh3", "schedule_xxh3", "config"] {
        assert!(!a[same].is_null());
        assert_eq!(a[same], b[same], "{same}");
    }
    std::fs::write(folder.0.join("bad.toml"), "no-such-flag = 1\n").unwrap();
    let refused = output(bench(&folder, "--config bad.toml")).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--no-such-flag"), "{}", text(&refused.stderr));
}
