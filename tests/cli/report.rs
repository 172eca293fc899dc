//! `milepost report`: the figures of a run from its files alone, and a page that shows them.
//!
//! Deliberately not here: what is in the page, chart by chart, see `src/report/page`.

use serde_json::Value;

use crate::http::get;
use crate::process::{Folder, Router, milepost, worker};

/// Both sides of a figure: as far apart as the last digit of a cell.
fn same(a: &Value, b: &Value, at: &str) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{at}");
            for (key, value) in a {
                same(value, &b[key], &format!("{at}.{key}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            a.iter().zip(b).for_each(|(a, b)| same(a, b, at));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{at}: {a} {b}");
        }
        _ => assert_eq!(a, b, "{at}"),
    }
}

#[test]
fn every_figure_of_a_run_comes_out_of_its_files_again() {
    let folder = Folder::new();
    // Slow enough for tokens to come apart: those of one read have no gap between them.
    let (sim, worker) = worker(&folder, "--speedup 5");
    let router = Router::start(
        &folder,
        &format!("--worker-urls {worker} --trace-log trace.jsonl --policy round_robin"),
    );
    // A worker as slow as that is healthy a moment after the router listens.
    assert!((0..5_000).any(|_| get(&router.address, "/readiness").0 == 200), "the worker is never healthy");
    let url = format!("http://{}", router.address);
    let args = "--dataset-name generated-shared-prefix --gsp-num-groups 3 --gsp-prompts-per-group 6 --gsp-output-len 9 \
                --gsp-system-prompt-len 64 --gsp-question-len 16 --num-prompts 5 --request-rate 200 --token-times --report --disable-tqdm \
                --router-trace trace.jsonl --goodput ttft:200";
    let ended = milepost(&folder, &format!("bench --base-url {url} {args}"));
    assert!(matches!(ended.code, Some(0 | 3 | 4)), "{} {}", ended.stdout, ended.stderr);
    assert!(
        ended.stderr.contains("note: --num-prompts says nothing to generated-shared-prefix"),
        "{}",
        ended.stderr
    );
    let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    let page = folder.read("milepost-bench/latest/report.html");
    assert!(page.contains("<svg") && page.contains("Verdict of the run") && !page.contains("<script"));

    let again = "milepost-bench/latest --json figures.json --svg charts --out again.html --goodput ttft:200";
    let ended = milepost(&folder, &format!("report {again}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("milepost report") && ended.stdout.contains("Where the time went"));
    let figures: Value = serde_json::from_str(&folder.read("figures.json")).unwrap();
    // A run is called what its folder is called, whatever link led there.
    let (name, of_files) = figures.as_object().unwrap().iter().next().unwrap();
    assert!(name.contains("-generated-shared-prefix-200rps"), "{name}");
    assert_eq!(of_files["metrics"]["count_itl"].as_u64().map(|n| n > 0), Some(true));
    same(&of_files["metrics"], &run["metrics"], "metrics");
    for key in ["where_the_time_went", "concurrency_over_time", "running_over_time"] {
        same(&of_files[key], &run[key], key);
    }
    assert!(folder.read("again.html").contains("</html>"));
    assert!(folder.read("charts/ttft.svg").starts_with("<svg xmlns"));

    #[cfg(feature = "png")]
    every_chart_is_a_png_too(&folder);

    // run.json alone and the trace alone, beside each other and under names that were given.
    let ended =
        milepost(&folder, "report bench=milepost-bench/latest/run.json router=trace.jsonl --json two.json");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("side by side") && ended.stdout.contains("as the router saw them"));
    assert!(folder.read("report.html").contains("2 runs side by side"));
    let two: Value = serde_json::from_str(&folder.read("two.json")).unwrap();
    for figure in ["p99_total_latency_ms", "median_ttft_ms", "total_output_tokens", "completed"] {
        same(&two["bench"]["metrics"][figure], &run["metrics"][figure], figure);
        same(&two["router"]["metrics"][figure], &run["metrics"][figure], figure);
    }
    assert_eq!((router.process.stop().code, sim.stop().code), (Some(0), Some(0)));
}

/// Of the run whose charts are in the folder `charts` as SVG.
#[cfg(feature = "png")]
fn every_chart_is_a_png_too(folder: &Folder) {
    let again = "report milepost-bench/latest --png pictures --out again.html";
    let ended = milepost(folder, again);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("written: again.html, pictures\n"), "{}", ended.stdout);
    let names = |of: &str, ending: &str| {
        let files = std::fs::read_dir(folder.0.join(of)).unwrap().map(|file| file.unwrap().path());
        let named = |file: std::path::PathBuf| {
            assert_eq!(file.extension().unwrap(), ending, "{}", file.display());
            file.file_stem().unwrap().to_owned()
        };
        files.map(named).collect::<std::collections::BTreeSet<_>>()
    };
    let pictures = names("pictures", "png");
    assert_eq!(pictures, names("charts", "svg"));
    for name in &pictures {
        let path = folder.0.join("pictures").join(name).with_extension("png");
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() > 4_000, "{}", path.display());
    }
    // What is no folder is named, with the flag.
    let ended = milepost(folder, "report milepost-bench/latest --png again.html");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("--png again.html: "), "{}", ended.stderr);
}

#[test]
fn hdr_logs_of_two_clients_are_one() {
    let folder = Folder::new();
    let (sim, worker) = worker(&folder, "--speedup 5");
    let mut counts = Vec::new();
    for (client, prompts) in [("a", 20), ("b", 30)] {
        let args = "--dataset-name random --random-input-len 16 --random-output-len 6 --request-rate 400 --disable-tqdm";
        let to = format!("--num-prompts {prompts} --hdr --output-dir {client}");
        let ended = milepost(&folder, &format!("bench --base-url {worker} {args} {to}"));
        assert!(ended.stdout.contains("latency.hdr"), "{} {}", ended.stdout, ended.stderr);
        let run: Value = serde_json::from_str(&folder.read(&format!("{client}/latest/run.json"))).unwrap();
        counts.push(run["metrics"].clone());
    }
    let ended =
        milepost(&folder, "report a/latest/latency.hdr b/latest/latency.hdr --json merged.json --svg charts");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("merging adds the counts of equal buckets"), "{}", ended.stdout);
    let told: Value = serde_json::from_str(&folder.read("merged.json")).unwrap();
    for tag in ["ttft_client", "ttft_from_schedule", "itl", "tpot_client", "latency_from_schedule"] {
        let count = |run: &Value| run[format!("count_{tag}")].as_u64().unwrap();
        assert_eq!(told["merged"][tag]["count"], count(&counts[0]) + count(&counts[1]), "{tag}");
        for (run, log) in counts.iter().zip(told["logs"].as_array().unwrap()) {
            let (of_run, of_log) = (&run[format!("max_{tag}_ms")], &log["tags"][tag]["max_ms"]);
            let (of_run, of_log) = (of_run.as_f64().unwrap(), of_log.as_f64().unwrap());
            assert!((of_log / of_run - 1.0).abs() < 0.002, "{tag}: {of_log} {of_run}");
        }
    }
    assert!(folder.read("report.html").contains("ttft_client: share of samples that took no longer"));
    assert!(folder.read("charts/cdf-itl.svg").contains("<svg"));
    for (args, words) in [
        ("report a/latest/latency.hdr b/latest", "b/latest is no HDR log, and the others are"),
        (
            "report a/latest/latency.hdr --goodput ttft:5",
            "--goodput: an HDR log holds counts and no requests",
        ),
    ] {
        let ended = milepost(&folder, args);
        assert_eq!(ended.code, Some(2), "{args}");
        assert!(ended.stderr.contains(words), "{args}: {}", ended.stderr);
    }
    assert_eq!(sim.stop().code, Some(0));
}

#[test]
fn what_is_no_run_is_usage_and_named() {
    let folder = Folder::new();
    folder.write("a.txt", "hello");
    for (args, words) in [
        ("", "[NAME=]PATH"),
        ("none.csv", "none.csv: No such file"),
        ("a.txt", "a.txt: expected requests.csv or run.json"),
        (".", "no requests.csv or run.json in it"),
        ("a.txt --goodput ttft", "--goodput: expected NAME:MILLISECONDS"),
    ] {
        let ended = milepost(&folder, &format!("report {args}"));
        assert_eq!(ended.code, Some(2), "{args}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{args}: {}", ended.stderr);
    }
    assert!(!folder.0.join("report.html").exists());
}
