//! `milepost doctor` as a user calls it: exit codes, JSON, what is no use typing, Ctrl-C.
//!
//! Deliberately not here: what it says of each kind of server, see `tests/it/doctor`.

use rustix::process::Signal;

use crate::certificates::{Authority, Front};
use crate::process::{Folder, Process, milepost, worker};

fn dead() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_how_bad_it_is_and_standard_output_has_the_report_alone() {
    let folder = Folder::new();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (_well, well) = worker(&folder, "");
    let (_lacking, lacking) = worker(&folder, "--dialect 0.5.23-rust");
    let dead = dead();
    let own = authority.identity("worker", &["127.0.0.1"]);
    let secured = format!("https://127.0.0.1:{}", Front::start(&authority, &own, false, &well).await.port);
    let signed_by = |authority: &Authority| {
        format!("--worker-urls {secured} --ca-cert-paths {} --json", authority.root().display())
    };
    let doctor = |args: String| Process::start(&folder.0, &format!("doctor {args}"));
    let doubting = doctor(signed_by(&stranger));
    // All at once: each waits for an idle connection to be closed.
    let runs = [
        (0, "", doctor(format!("--worker-urls {well} --skip-stop-check --json"))),
        (
            3,
            "something is missing",
            doctor(format!("--worker-urls {well} {lacking} --skip-stop-check --json")),
        ),
        (4, "some cannot be used", doctor(format!("--worker-urls {well} {dead} --skip-stop-check --json"))),
        (1, "none can be used", doctor(format!("--router {dead} --json"))),
        (0, "", doctor(format!("{} --skip-stop-check", signed_by(&authority)))),
    ];
    for (code, words, run) in runs {
        let ended = run.finish();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains(words) && ended.stderr.lines().count() <= 1, "{}", ended.stderr);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect(&ended.stdout);
        let targets = report["targets"].as_array().unwrap();
        assert!(targets.iter().all(|t| t["url"].is_string() && t["verdict"].is_string()), "{report}");
        if code == 0 {
            assert_eq!(targets[0]["identity"]["simulated"], true);
            assert!(targets[0]["idle"]["closed_after_ns"].as_u64().unwrap() > 4_500_000_000, "{report}");
        }
    }
    let ended = doubting.finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("signed by nobody in --ca-cert-paths"), "{}", ended.stdout);
}

#[test]
fn what_cannot_be_asked_is_a_usage_error_that_says_what_to_type() {
    let folder = Folder::new();
    for (args, words) in [
        ("", "nobody to examine: expected --worker-urls http://host:port"),
        ("--worker-urls gpu0:8000", "--worker-urls: worker 1 of 1: expected http://host:port"),
        ("--router gpu0:8000", "--router: expected http://host:port"),
        ("--worker-urls https://gpu0:8000", "https needs --ca-cert-paths"),
        ("--worker-urls http://gpu0:8000 --ca-cert-paths none.pem", "--ca-cert-paths: none.pem"),
        ("--worker-urls http://gpu0:8000 --client-cert-path a.pem", "--client-key-path"),
        ("--worker-urls http://gpu0:8000 --api-key s\u{e9}cret", "--api-key: expected visible characters"),
    ] {
        let ended = milepost(&folder, &format!("doctor {args}"));
        assert_eq!(ended.code, Some(2), "{args}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{args}: {}", ended.stderr);
        assert!(!ended.stderr.contains("cret"), "{}", ended.stderr);
    }
}

#[test]
fn ctrl_c_ends_it_at_once() {
    let folder = Folder::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let doctor = Process::start(&folder.0, &format!("doctor --worker-urls {url}"));
    let (asked, _) = listener.accept().unwrap();
    doctor.signal(Signal::INT);
    let ended = doctor.finish();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{}", ended.stderr);
    drop(asked);
}

/// Its address is this host's, and its monotonic clock is a day ahead.
#[test]
fn a_server_in_a_time_namespace_of_its_own_is_found_out() {
    let unshare = "unshare --user --map-root-user --time --monotonic 86400";
    let mut allowed = std::process::Command::new("sh");
    let allowed = allowed.arg("-c").arg(format!("{unshare} true")).stderr(std::process::Stdio::null());
    if !allowed.status().is_ok_and(|status| status.success()) {
        eprintln!("not run: this kernel lets nobody make a time namespace");
        return;
    }
    let folder = Folder::new();
    let within = format!("exec {unshare} \"$0\" \"$@\"; true");
    let mut server = Process::start_within(&folder.0, &within, "worker --port 0 --dialect 0.4.9-patched");
    let line = server.line("SIMULATED SGLang worker");
    let url = line[line.find("http://").expect(&line)..].trim().to_owned();
    let ended = milepost(&folder, &format!("doctor --worker-urls {url} --skip-stop-check --json"));
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let found = &report["targets"][0];
    assert_eq!((&found["same_host"], &found["other_clocks"]), (&true.into(), &"monotonic".into()), "{found}");
    let columns = found["streamed"]["columns"].as_array().unwrap();
    let column = |name: &str| columns.iter().find(|column| column["name"] == name).unwrap();
    assert_eq!(column("queue_time_start")["missing"], "clock_not_of_this_host");
    assert!(column("server_created_time")["at_ns"].is_i64(), "its wall clock is this host's: {found}");
    assert!(
        column("pure_queue_time")["at_ns"].is_i64(),
        "a difference in one clock is right in any: {found}"
    );
    server.signal(Signal::TERM);
}
