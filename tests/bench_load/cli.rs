//! `milepost bench` as a process: flags, files, exit codes.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use milepost::clock::Clock;
use serde_json::Value;

use crate::data;
use crate::server::{Server, Step, about, stream};

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("milepost-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn bench(folder: &Folder, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command.current_dir(&folder.0).env_remove("OPENAI_API_KEY").arg("bench").args(args.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn serving() -> Server {
    let events = data("sglang-0.5.23_generate_stream.sse");
    Server::new(&Clock::system(), move |got| about(got).unwrap_or_else(|| stream(&events, Duration::ZERO)))
}

pub const SMALL: &str = "--dataset-name random-ids --num-prompts 3 --random-input-len 6 --random-output-len 8 --random-range-ratio 1";

#[tokio::test]
async fn usage_errors_are_2_and_name_the_flag() {
    let folder = Folder::new("usage");
    std::fs::create_dir(folder.0.join("empty")).unwrap();
    let columns: Vec<String> = (0..65).map(|n| format!("--column c{n}=ttft*{n}")).collect();
    let columns = format!("--dataset-name random {}", columns.join(" "));
    for (args, named) in [
        ("--request-rate 0", "--request-rate"),
        ("--dataset-name random --column ms=nosuch*2", "ms: "),
        ("--dataset-name random --column ttft=1", "ttft is a column that is there already"),
        ("--goodput nope:5", "--goodput: no quantity"),
        ("--goodput ttft:5 ttft:6", "--goodput: ttft has two limits"),
        ("--request-rate -1", "--request-rate"),
        ("--request-rate nan", "--request-rate"),
        ("--no-such-flag", "--no-such-flag"),
        ("--base-url gpu3:8000 --dataset-name random", "--base-url"),
        ("--dataset-name no-such", "--dataset-name"),
        ("--dataset-name mooncake", "--dataset-path"),
        ("--dataset-name random --arrivals trace", "--arrivals trace"),
        ("--dataset-name random --schedule-speedup 2", "--schedule-speedup"),
        ("--dataset-name azure --schedule-speedup 0", "--schedule-speedup"),
        ("--num-prompts 0", "--num-prompts"),
        ("--dataset-name random --extra-request-body [1]", "--extra-request-body"),
        ("--dataset-name random --header novalue", "--header"),
        ("--dataset-name random --random-range-ratio 2", "--random-range-ratio"),
        ("--dataset-name sharegpt", "--dataset-path"),
        ("--dataset-name generated-shared-prefix --gsp-zipf-alpha 1", "--gsp-zipf-alpha"),
        ("--dataset-name random --router-trace /nonexistent", "--router-trace"),
        ("--dataset-name random --stages 10@", "--stages"),
        ("--dataset-name random --stages 10@1s --request-rate 3", "--stages"),
        ("--dataset-name random --duration 0s --request-rate 3", "--duration"),
        ("--dataset-name random --duration 1s", "--duration"),
        ("--dataset-name random --request-rate 3 --arrivals gamma", "--burstiness"),
        ("--dataset-name random --request-rate 3 --burstiness 0", "--burstiness"),
        ("--dataset-name random --schedule nonexistent.jsonl", "--schedule"),
        ("--pace-check", "--request-rate"),
        ("--pace-check --request-rate 9 --start-workers 1", "--start-workers"),
        ("--pace-check --request-rate 9 --sweep request-rate=1,2", "--sweep"),
        ("--pace-check --request-rate 9 --goodput ttft:5", "--goodput"),
        ("--pace-check --request-rate 9 --faults f", "--faults"),
        ("--dataset-name random --sweep seed=1,2", "seed cannot be swept; request-rate, "),
        ("--dataset-name random --sweep max-concurrency=4,0", "--sweep max-concurrency=0: "),
        ("--dataset-name generated-shared-prefix --sweep num-prompts=3,4", "changes nothing of a run"),
        ("--dataset-name generated-shared-prefix --sweep num-prompts=3", "changes nothing of a run"),
        ("--dataset-name multi-turn --sweep random-range-ratio=0.5", "changes nothing of a run"),
        (
            "--dataset-name azure --schedule-speedup 2 --sweep request-rate=3",
            "--sweep request-rate=3: --schedule-speedup",
        ),
        (&columns, "--column: 65 of them, at most 64"),
        ("--dataset-name random --sweep request-rate=inf --duration 3s --request-rate 1", "--sweep"),
        ("--dataset-name random --sweep request-rate=1 --sweep request-rate=2", "swept twice"),
        ("--dataset-name random --sweep burstiness=1,2", "need a --request-rate"),
        (
            "--dataset-name multi-turn --sweep random-input-len=1,2",
            "changes nothing of a run with --dataset-name multi-turn",
        ),
        ("--dataset-name weka", "--dataset-path"),
        ("--dataset-name weka --dataset-path empty", "no .json or .jsonl files"),
        ("--dataset-name random --find-rate", "--slo"),
        ("--dataset-name random --slo p99_ttft<5", "--slo"),
        ("--dataset-name random --find-rate --slo p50<5", "--slo"),
    ] {
        let out = output(bench(&folder, args)).await;
        assert_eq!(out.status.code(), Some(2), "{args}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains(named), "{args}: {}", text(&out.stderr));
    }
}

/// `| head -1`: files and verdict are as if somebody had read on. Once standard output has no reader, then standard error neither.
#[tokio::test]
async fn a_reader_that_goes_away_changes_no_file_and_no_exit_code() {
    let folder = Folder::new("closed-pipe");
    let url = serving().listen().await;
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for (number, more) in ["", "--explain", "--sweep max-concurrency=1"].into_iter().enumerate() {
        for both in [false, true] {
            let out = format!("{number}-{both}");
            let args = format!("--base-url {url} {SMALL} --disable-tqdm --output-dir {out} {more}");
            let mut command = bench(&folder, &args);
            command.stdout(closed());
            if both {
                command.stderr(closed());
            }
            let done = output(command).await;
            let run: Value = serde_json::from_str(&folder.read(&format!("{out}/latest/run.json"))).unwrap();
            let earned = match run["verdict"]["rating"].as_str().unwrap() {
                "VALID" => 0,
                "SUSPECT" => 3,
                _ => 4,
            };
            assert_eq!(run["metrics"]["completed"], 3, "{more}: {run}");
            assert_eq!(done.status.code(), Some(earned), "{more}: {}", text(&done.stderr));
        }
    }
    for plain in ["--explain=all", "--pace-check --request-rate 200 --duration 100ms"] {
        let mut command = bench(&folder, plain);
        command.stdout(closed()).stderr(closed());
        let done = output(command).await;
        assert_eq!(done.status.code(), Some(0), "{plain}");
    }
}

#[tokio::test]
async fn a_column_of_ones_own_is_in_the_file_and_in_the_summary() {
    let folder = Folder::new("column");
    let url = serving().listen().await;
    let args =
        format!("{SMALL} --base-url {url} --output-dir out --column ms=ttft*1000 --column bad=error+1");
    let out = output(bench(&folder, &args)).await;
    assert!(out.status.code().is_some_and(|code| code != 2), "{}", text(&out.stderr));
    let csv = folder.read("out/latest/requests.csv");
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let place = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let (ttft, ms, bad) = (place("ttft"), place("ms"), place("bad"));
    for row in lines {
        let [ttft, ms] = [row[ttft], row[ms]].map(|cell| cell.parse::<f64>().unwrap());
        assert!((ms - ttft * 1000.0).abs() < 1e-6 && row[bad].is_empty(), "{row:?}");
    }
    let run: serde_json::Value = serde_json::from_str(&folder.read("out/latest/run.json")).unwrap();
    assert_eq!((&run["columns"]["ms"]["failed"], &run["columns"]["bad"]["failed"]), (&0.into(), &3.into()));
    assert!(text(&out.stdout).contains("Columns of your own"), "{}", text(&out.stdout));
}

#[tokio::test]
async fn a_run_writes_its_files_and_the_next_one_beside_them() {
    let folder = Folder::new("files");
    let server = serving();
    let args = format!(
        "--base-url {} {SMALL} --output-file all.jsonl --tokenizer x --seed 7",
        server.listen().await
    );
    let out = output(bench(&folder, &args)).await;
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("--tokenizer is not needed"));
    assert!(text(&out.stdout).contains("3 of 3 (100.0 %)"), "{}", text(&out.stdout));
    let csv = folder.read("milepost-bench/latest/requests.csv");
    assert_eq!(csv.lines().count(), 4);
    let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    assert_eq!(run["per_request"].as_array().unwrap().len(), 3);
    assert_eq!((&run["partial"], &run["config"]["seed"]), (&Value::Bool(false), &Value::from(7)));

    let first = std::fs::canonicalize(folder.0.join("milepost-bench/latest")).unwrap();
    let again = output(bench(&folder, &format!("{args} --output-details --header x-key=sk-secret"))).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(std::fs::read_to_string(first.join("requests.csv")).unwrap(), csv, "the first run stays");
    let second = std::fs::canonicalize(folder.0.join("milepost-bench/latest")).unwrap();
    assert_ne!(second, first);
    manifest_holds(&second);
    let collected = folder.read("all.jsonl");
    let lines: Vec<Value> = collected.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].get("per_request").is_some(), lines[1].get("per_request").is_some()), (false, true));
}

/// What the manifest says of the files is so, and it holds no secret.
fn manifest_holds(run: &std::path::Path) {
    let text = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    assert!(!text.contains("sk-secret") && text.contains("x-key=***"), "{text}");
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let files = manifest["files"].as_array().unwrap();
    assert_eq!(files.len(), 3, "{manifest}");
    for file in files {
        let bytes = std::fs::read(run.join(file["name"].as_str().unwrap())).unwrap();
        assert_eq!(file["bytes"], bytes.len());
        assert_eq!(file["xxh3"], format!("{:016x}", milepost_policies::name_hash(&bytes)));
    }
    let sent = &manifest["dataset"];
    assert_eq!((&sent["name"], &sent["file"]), (&Value::from("random"), &Value::Null));
    assert!(sent["requests"].as_u64() > Some(0), "{manifest}");
    assert!(manifest["machine"]["cores"].as_u64() > Some(0) && manifest["machine"]["kernel"].is_string());
    assert!(manifest["started"].as_str() < manifest["ended"].as_str(), "{manifest}");
    assert_eq!((&manifest["verdict"], &manifest["partial"]), (&Value::from("VALID"), &Value::from(false)));
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.contains("Z-random-inf"), "{name}");
}

#[tokio::test]
async fn the_api_key_is_sent_and_not_written() {
    let folder = Folder::new("key");
    let server = serving();
    let mut command = bench(&folder, &format!("--base-url {} {SMALL}", server.listen().await));
    command.env("OPENAI_API_KEY", "sk-secret");
    let out = output(command).await;
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(server.load().iter().all(|g| g.header("authorization") == Some("Bearer sk-secret")));
    let written =
        [folder.read("milepost-bench/latest/run.json"), text(&out.stdout), text(&out.stderr)].concat();
    assert!(!written.contains("sk-secret"));
}

#[tokio::test]
async fn no_success_is_1() {
    let folder = Folder::new("failing");
    let server = Server::new(&Clock::system(), |got| about(got).unwrap_or_else(|| vec![Step::Close]));
    let args = format!("--base-url {} {SMALL} --warmup-requests 0", server.listen().await);
    let out = output(bench(&folder, &args)).await;
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("reset:"), "{}", text(&out.stdout));
    assert_eq!(folder.read("milepost-bench/latest/requests.csv").lines().count(), 4);
}

#[tokio::test]
async fn ctrl_c_writes_partial_results_and_is_130() {
    let folder = Folder::new("partial");
    let (tx, mut reached) = tokio::sync::mpsc::channel(8);
    let server = Server::new(&Clock::system(), move |got| {
        about(got).unwrap_or_else(|| {
            let _ = tx.try_send(());
            vec![Step::Hang]
        })
    });
    let args =
        format!("--base-url {} {SMALL} --warmup-requests 0 --max-concurrency 1", server.listen().await);
    let child = bench(&folder, &args).spawn().unwrap();
    reached.recv().await.unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    let csv = folder.read("milepost-bench/latest/requests.csv");
    assert_eq!(csv.matches("not_sent:").count(), 2, "{csv}");
    assert_eq!(csv.matches("interrupted:").count(), 1, "{csv}");
    let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    assert_eq!(run["partial"], Value::Bool(true));
    assert!(text(&out.stdout).contains("PARTIAL"));
}

#[tokio::test]
async fn a_saved_schedule_is_replayed_bit_for_bit() {
    let (server, folder) = (serving(), Folder::new("schedule"));
    let url = server.listen().await;
    let random =
        "--dataset-name random-ids --random-input-len 6 --random-output-len 8 --random-range-ratio 1";
    let made = format!(
        "--base-url {url} {random} --stages 100@50ms,200..400@100ms --arrivals gamma --burstiness 0.5 --output-dir made"
    );
    let out = output(bench(&folder, &made)).await;
    assert!(out.status.success(), "{}", text(&out.stderr));
    let saved = folder.read("made/latest/schedule.jsonl");
    let again = format!(
        "--base-url {url} {random} --schedule made/latest/schedule.jsonl --seed 9 --output-dir again"
    );
    let out = output(bench(&folder, &again)).await;
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(folder.read("again/latest/schedule.jsonl"), saved);
    let hashes = ["made", "again"].map(|run| {
        let run: Value = serde_json::from_str(&folder.read(&format!("{run}/latest/run.json"))).unwrap();
        (run["schedule_xxh3"].clone(), run["metrics"]["requests"].clone())
    });
    assert_eq!(hashes[0], hashes[1]);
    assert_eq!(hashes[0].1.as_u64(), Some(saved.lines().count() as u64 - 1));
}

#[tokio::test]
async fn the_pace_check_needs_no_target_and_tells_lateness() {
    let folder = Folder::new("pace");
    let out =
        output(bench(&folder, "--pace-check --request-rate 500 --duration 200ms --arrivals constant")).await;
    assert!(out.status.success(), "{}", text(&out.stderr));
    let told = text(&out.stdout);
    for line in ["Requests                                      100", "Lateness p99 (ms)", "CPU (cores)"] {
        assert!(told.contains(line), "{told}");
    }
}

#[tokio::test]
async fn goodput_is_in_the_summary_and_under_bench_servings_keys() {
    let folder = Folder::new("goodput");
    let url = serving().listen().await;
    let args = format!("--base-url {url} {SMALL} --goodput ttft:60000 tpot:0.000001 --explain");
    let done = output(bench(&folder, &args)).await;
    let printed = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    for part in
        ["SLO attainment, all limits:", "ttft up to 60000:", "3 of 3", "Where the time went", "(ttft_client)"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    let metrics = &run["metrics"];
    assert_eq!(metrics["slo_attainment_by_metric"]["ttft"], Value::from(1.0));
    assert_eq!(metrics["goodput_slos_ms"]["ttft"], Value::from(60000.0));
    // Three samples bear no percentile.
    assert_eq!(metrics["percentiles_ci95"]["ttft_client_ms"]["median"], Value::Null);
    // Without a router's trace nothing is known of a router, and nothing is made up.
    assert_eq!(run["found_on_one_side"]["rows_without_record"], Value::Null);
    assert_eq!(metrics["mean_router_overhead_ms"], Value::Null);
    assert_eq!(metrics["mean_network_back_ms"], Value::Null);
}

#[tokio::test]
async fn definitions_need_no_target() {
    let folder = Folder::new("explain");
    let done = output(bench(&folder, "--explain=all --base-url http://127.0.0.1:9")).await;
    assert!(done.status.success() && text(&done.stdout).contains("(icl), ms\n    gap between two events"));
}
