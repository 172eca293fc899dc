//! What goes wrong with a target, a data set, a disk or a user's patience: what is read of it, the exit code, and what is kept.

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::failure::Class;
use milepost::load::{LoadConfig, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::{Folder, SMALL, bench, output, serving, text};
use crate::server::{Server, Step, about, chunk, end, head, json, stream};
use crate::{config, data};

const EVENT: &str = "data: {\"text\":\"a\",\"meta_info\":{\"id\":\"1\",\"finish_reason\":null,\"prompt_tokens\":6,\"completion_tokens\":1}}\n\n";

fn answering(steps: Vec<Step>) -> Server {
    Server::new(&Clock::system(), move |got| about(got).unwrap_or_else(|| steps.clone()))
}

/// The warm-up is what meets a target that does not fit: it says what the server said, and no run is kept.
#[tokio::test]
async fn a_target_that_does_not_fit_is_1_with_the_servers_words() {
    let folder = Folder::new("unfit");
    let missing = r#"{"object":"error","message":"The model `nope` does not exist.","type":"NotFoundError","code":404}"#;
    let too_long = r#"{"error":{"message":"Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens)"}}"#;
    let half = || vec![head("200 OK", "text/event-stream", ""), chunk(&EVENT[..40]), end()];
    let nothing = stream("data: [DONE]\n\n", Duration::ZERO);
    for (args, answer, words) in [
        (
            "",
            json("404 Not Found", r#"{"detail":"Not Found"}"#),
            &["http_status: 404 Not Found", "--backend and --model"][..],
        ),
        (
            "--backend vllm --model nope",
            json("404 Not Found", missing),
            &["The model `nope` does not exist."],
        ),
        ("", json("400 Bad Request", too_long), &["http_status: 400", "exceeds the maximum allowed length"]),
        (
            "",
            stream(&data("sglang-0.4.9.post6_err_generate_too_long_stream.sse"), Duration::ZERO),
            &["error_event", "context length"],
        ),
        ("", half(), &["truncated", "[DONE]"]),
        ("", nothing, &["empty", "no token"]),
    ] {
        let url = answering(answer).listen().await;
        let out = output(bench(&folder, &format!("--base-url {url} {SMALL} {args}"))).await;
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args}: {told}");
        for word in words.iter().chain(&["the warm-up request failed"]) {
            assert!(told.contains(word), "{word:?} in {told}");
        }
        assert!(!folder.0.join("milepost-bench").exists(), "no result of a run that was none");
    }
}

/// Without the warm-up the same is in every row, and the run is kept.
#[tokio::test]
async fn answers_that_are_none_are_rows_and_1() {
    let folder = Folder::new("none");
    let too_long = r#"{"error":{"message":"Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens)"}}"#;
    for (answer, class) in [
        (stream("data: [DONE]\n\n", Duration::ZERO), "empty: the answer held no token"),
        (
            vec![head("200 OK", "text/event-stream", ""), chunk(EVENT), chunk(&EVENT[..40]), end()],
            "truncated:",
        ),
        (json("400 Bad Request", too_long), "http_status: 400 Input length (9000 tokens) exceeds"),
    ] {
        let url = answering(answer).listen().await;
        let out = output(bench(&folder, &format!("--base-url {url} {SMALL} --warmup-requests 0"))).await;
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
        assert!(text(&out.stderr).contains("no request succeeded"), "{}", text(&out.stderr));
        let csv = folder.read("milepost-bench/latest/requests.csv");
        assert_eq!(csv.matches(class).count(), 3, "{csv}");
        let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
        assert_eq!((&run["partial"], &run["metrics"]["completed"]), (&Value::from(false), &Value::from(0)));
    }
}

/// A stream that goes on is not silent however long it takes; one that stops is given up with what it brought.
#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_is_given_up_and_a_slow_one_is_not() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let server = Server::new(&clock, |got| {
        about(got).unwrap_or_else(|| {
            let mut steps =
                vec![Step::Sleep(Duration::from_secs(50)), head("200 OK", "text/event-stream", "")];
            for _ in 0..10 {
                steps.extend([chunk(EVENT), Step::Sleep(Duration::from_secs(9))]);
            }
            let falls_silent = got.header("x-request-id").is_some_and(|id| id.ends_with('1'));
            if falls_silent {
                steps.push(Step::Hang);
            } else {
                steps.extend([chunk("data: [DONE]\n\n"), end()]);
            }
            steps
        })
    });
    let config = LoadConfig { idle_timeout: Duration::from_secs(10), ..config("http://pipe:1", 2) };
    let report = run(config, server.context()).await.unwrap();
    let failure = report.rows.held()[0].failure.clone().unwrap();
    assert_eq!(failure.class, Class::Timeout, "{failure}");
    assert!(failure.text.contains("the answer stopped: no byte for 10 s"), "{failure}");
    assert_eq!(report.rows.held()[0].completion_tokens, Some(1));
    assert!(report.rows.held()[1].success(), "{:?}", report.rows.held()[1].failure);
    assert!(report.ended_unix_ns - report.start.unix_ns < 160_000_000_000, "it took no request's whole time");
}

#[tokio::test]
async fn rows_with_nothing_in_them_are_told_by_their_line() {
    let folder = Folder::new("rows");
    let good = "{\"prompt\":\"a b\",\"output_len\":2}\n";
    for (name, rows, word) in [
        ("custom", "{}", "line 2: expected a field prompt"),
        ("custom", "null", "line 2: expected a field prompt"),
        ("custom", "[]", "line 2: expected a field prompt"),
        (
            "custom",
            "{\"prompt\":\" \",\"output_len\":2}",
            "line 2: prompt: expected a text, got an empty one",
        ),
        ("custom", "{\"prompt\":\"a\",\"output_len\":0}", "line 2: output_len: expected at least 1"),
        ("custom", "{\"conversations\":[]}", "line 2: conversations[0]: expected"),
        (
            "sharegpt",
            "[{},{\"conversations\":[]},{\"conversations\":[{\"value\":\"\"},{\"value\":\"\"}]}]",
            "no prompt is left",
        ),
    ] {
        let file = if name == "custom" { format!("{good}{rows}\n") } else { rows.to_owned() };
        std::fs::write(folder.0.join("rows"), file).unwrap();
        let args = format!("--base-url http://127.0.0.1:9 --dataset-name {name} --dataset-path rows");
        let out = output(bench(&folder, &args)).await;
        assert_eq!(out.status.code(), Some(2), "{rows}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(word), "{rows}: {}", text(&out.stderr));
    }
}

/// The summary is printed all the same, and the files that were whole before the disk was full stay.
#[tokio::test]
async fn a_full_disk_is_1_and_what_was_written_stays() {
    let folder = Folder::new("full");
    let url = serving().listen().await;
    let out = output(bench(&folder, &format!("--base-url {url} {SMALL} --output-file /dev/full"))).await;
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write the results: /dev/full: No space left on device"), "{told}");
    assert!(text(&out.stdout).contains("Successful requests"), "{}", text(&out.stdout));
    let runs = std::fs::read_dir(folder.0.join("milepost-bench")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.into_iter().find(|path| path.join("run.json").exists()).expect("the run's own files");
    assert_eq!(std::fs::read_to_string(run.join("requests.csv")).unwrap().lines().count(), 4);

    // A file that may not grow any further: by default the process would be killed.
    let mut limited = Command::new("sh");
    limited
        .current_dir(&folder.0)
        .env_remove("OPENAI_API_KEY")
        .args(["-c", "ulimit -f 1 && exec \"$0\" \"$@\""]);
    limited.arg(env!("CARGO_BIN_EXE_milepost")).arg("bench");
    limited.args(format!("--base-url {url} {SMALL} --num-prompts 30 --output-dir small").split_whitespace());
    let out = output(limited).await;
    let told = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write the results: small/") && told.contains("File too large"), "{told}");
    assert!(text(&out.stdout).contains("30 of 30"), "{}", text(&out.stdout));
}

/// Ctrl-C while the caches are emptied, which may take half a minute: nothing was measured, and it ends now.
#[tokio::test]
async fn ctrl_c_before_the_first_request_ends_at_once() {
    let folder = Folder::new("early");
    let (tx, mut reached) = tokio::sync::mpsc::channel(8);
    let server = Server::new(&Clock::system(), move |got| {
        if got.path == "/flush_cache" {
            let _ = tx.try_send(());
            return vec![Step::Hang];
        }
        about(got).unwrap_or_else(|| stream(&data("sglang-0.5.23_generate_stream.sse"), Duration::ZERO))
    });
    let args = format!("--base-url {} {SMALL} --flush-cache", server.listen().await);
    let child = bench(&folder, &args).spawn().unwrap();
    reached.recv().await.unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let out = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("nothing was measured"), "{}", text(&out.stderr));
    assert!(!folder.0.join("milepost-bench").exists());
}

/// The first Ctrl-C writes what there is, for which records of the router are waited for; the second waits for nothing.
#[tokio::test]
async fn a_second_ctrl_c_ends_at_once() {
    let folder = Folder::new("twice");
    let (tx, mut reached) = tokio::sync::mpsc::channel(8);
    let server = Server::new(&Clock::system(), move |got| {
        about(got).unwrap_or_else(|| {
            let _ = tx.try_send(());
            vec![Step::Hang]
        })
    });
    std::fs::write(folder.0.join("trace.jsonl"), "").unwrap();
    let args = format!(
        "--base-url {} {SMALL} --warmup-requests 0 --max-concurrency 1 --router-trace trace.jsonl",
        server.listen().await
    );
    let mut child = bench(&folder, &args).spawn().unwrap();
    reached.recv().await.unwrap();
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        // Read on to the end: a closed pipe would end the child another way.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.any(|line| line.contains("once more to leave at once"));
        kill_process(pid, Signal::INT).unwrap();
        lines.for_each(drop);
        (told, child.wait().unwrap().code())
    });
    assert_eq!(ended.await.unwrap(), (true, Some(130)));
    assert!(!folder.0.join("milepost-bench/latest").exists(), "it waited for no record");
}

/// Ctrl-C while files are written: the first says what is being done and where the requests are, the second ends it, and what is made
/// by then stays: requests, `run.json` and the figures. A pipe that nobody reads holds the end of the run up.
#[tokio::test]
async fn ctrl_c_while_files_are_written_keeps_what_is_made() {
    let (folder, url) = (Folder::new("closing"), serving().listen().await);
    let pipe = folder.0.join("held.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let args = format!("--base-url {url} {SMALL} --output-file held.jsonl --output-dir out");
    let mut child = bench(&folder, &args).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let root = folder.0.join("out");
    let ended = tokio::task::spawn_blocking(move || {
        let is_made = |file: &str| {
            let runs = std::fs::read_dir(&root).into_iter().flatten().flatten();
            runs.map(|run| run.path()).any(|run| !run.ends_with("latest") && run.join(file).exists())
        };
        while !is_made("run.json") {
            assert_eq!(child.try_wait().unwrap(), None, "it waits for a reader of the pipe");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_process(pid, Signal::INT).unwrap();
        // Read on to the end: a closed pipe would end the child another way.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let first = lines.find(|line| line.starts_with("interrupted:")).unwrap_or_default();
        kill_process(pid, Signal::INT).unwrap();
        let second = lines.find(|line| line.starts_with("interrupted:")).unwrap_or_default();
        assert!(is_made("requests.csv") && is_made("run.json") && !is_made("manifest.json"));
        (first, second, child.wait_with_output().unwrap())
    });
    let (first, second, out) = ended.await.unwrap();
    assert!(
        first.contains("its requests are written (out/") && first.contains("once more to leave"),
        "{first}"
    );
    assert!(second.contains("the files made so far are in out/"), "{second}");
    assert_eq!(out.status.code(), Some(130));
    assert!(text(&out.stdout).contains("3 of 3 (100.0 %)"), "{}", text(&out.stdout));
}
