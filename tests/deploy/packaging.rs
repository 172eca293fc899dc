//! The unit, the image and the patch: the command they run exists, and they give the router the time and the files that it needs.
//!
//! Rule: what can be checked without systemd and Docker is; `systemd-analyze` has its say where it is installed. Deliberately
//! not here: building the image.

use std::process::Command;

use crate::flags::{settings, value, words};
use crate::read;

/// The values of a key of the unit.
fn unit(key: &str) -> Vec<String> {
    let text = read("deploy/systemd/milepost.service");
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

fn one(key: &str) -> String {
    let mut values = unit(key);
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values.remove(0)
}

/// The example that the unit's header says to install.
fn example() -> milepost::config::RouteConfig {
    let text = read("deploy/examples/staging-capture.env");
    settings(&words(&value(&text, "MILEPOST_FLAGS").unwrap())).config
}

#[test]
fn the_unit_runs_the_router_and_gives_it_time_to_drain() {
    assert_eq!(one("ExecStart"), "/usr/local/bin/milepost route $MILEPOST_FLAGS");
    let config = example();
    let needed = config.drain_delay.as_secs() + config.shutdown_grace.as_secs();
    let given: u64 = one("TimeoutStopSec").parse().unwrap();
    assert!(given > needed, "TimeoutStopSec={given}, drain and grace need {needed}");
    assert_eq!(one("RestartPreventExitStatus"), "2", "the exit code for bad flags");
    let state = format!("/var/lib/{}", one("StateDirectory"));
    assert!(config.capture.max_bytes.is_some(), "what is left on fills no disk");
    assert!(config.trace_log.unwrap().starts_with(&state), "only {state} can be written");
}

#[test]
fn the_unit_does_not_deny_what_the_router_asks_of_the_kernel() {
    let denied: Vec<String> = unit("SystemCallFilter").into_iter().filter(|f| f.starts_with('~')).collect();
    // prlimit64 (the limit of open files) is in @resources.
    assert!(!denied.iter().any(|filter| filter.contains("@resources")), "{denied:?}");
    assert_eq!(one("ProcSubset"), "all", "the boot id is in /proc/sys");
    for hardening in ["NoNewPrivileges", "PrivateDevices", "MemoryDenyWriteExecute", "ProtectHome"] {
        assert_eq!(one(hardening), "yes");
    }
}

/// systemd's own check; what is not installed cannot have its say.
#[test]
fn systemd_takes_the_unit_where_it_is_installed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("milepost-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("milepost.service");
    // The program need not be installed to check its unit.
    let text = read("deploy/systemd/milepost.service").replace("/usr/local/bin/milepost", "/bin/sh");
    std::fs::write(&file, text).unwrap();
    let ended = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("milepost.service")).collect();
    assert!(ended.status.success() && about_us.is_empty(), "{said}");
}

#[test]
fn the_image_builds_with_the_oldest_rust_and_publishes_the_default_ports() {
    let text = read("deploy/container/Dockerfile");
    let manifest = read("Cargo.toml");
    let rust =
        manifest.lines().find_map(|l| l.strip_prefix("rust-version = \"")).unwrap().trim_end_matches('"');
    assert!(text.contains(&format!("FROM rust:{rust}-slim")), "rust-version is {rust}");
    assert!(text.contains("cargo build --release --locked --bin milepost"));
    let defaults = settings(&[]);
    assert!(text.contains(&format!("EXPOSE {} {}\n", defaults.listen.port, defaults.metrics.port)));
    assert!(text.contains("\nUSER 65532:65532\n"), "Kubernetes checks a number");
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "target") && ignored.lines().any(|line| line == ".git"));
}

/// Lines of the old and of the new file that a hunk's head announces, `@@ -1,4 +1,5 @@`.
fn announced(head: &str) -> (usize, usize) {
    let mut counts = head.split(' ').skip(1).map(|part| part.split_once(',').unwrap().1.parse().unwrap());
    (counts.next().unwrap(), counts.next().unwrap())
}

#[test]
fn the_patch_is_whole_and_tells_the_four_fields_that_are_read() {
    let patch = read("deploy/sglang-patch/sglang-0.4.9.patch");
    let mut hunks = 0;
    for hunk in patch.split("\n@@").skip(1) {
        let (head, body) = hunk.split_once('\n').unwrap();
        let body = body.split("\n---").next().unwrap();
        let of = |sign| body.lines().filter(|line| line.starts_with(sign)).count();
        let kept = body.lines().filter(|line| line.is_empty() || line.starts_with(' ')).count();
        assert_eq!(announced(&format!("@@{head}")), (kept + of('-'), kept + of('+')), "{head}");
        assert_eq!(of('-'), 0, "nothing of SGLang is taken away");
        hunks += 1;
    }
    assert!(hunks > 5);
    let schema = milepost::trace::schema::text();
    for field in ["server_created_time", "server_first_token_time", "queue_time_start", "queue_time_end"] {
        assert!(patch.contains(&format!("meta_info[\"{field}\"] = ")), "the patch tells {field}");
        assert!(schema.contains(&format!("\n  {field} ")), "the router reads {field}");
    }
}
