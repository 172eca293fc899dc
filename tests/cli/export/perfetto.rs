//! Chrome trace events, held to what their viewers demand: slices of a lane nest, arrows end in slices.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{export, requests};
use crate::process::Folder;

/// Nanoseconds of microseconds with three decimals, exactly.
fn ns(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 1_000.0).round() as i64
}

/// Slices by process and lane, as (start, end, name).
type Lanes = BTreeMap<(i64, i64), Vec<(i64, i64, String)>>;

fn lanes(events: &[Value]) -> Lanes {
    let mut lanes = Lanes::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let lane = (event["pid"].as_i64().unwrap(), event["tid"].as_i64().unwrap());
        let (start, long) = (ns(&event["ts"]), ns(&event["dur"]));
        lanes.entry(lane).or_default().push((
            start,
            start + long,
            event["name"].as_str().unwrap().to_owned(),
        ));
    }
    lanes
}

#[test]
fn slices_nest_and_arrows_lead_from_the_router_to_a_worker() {
    let folder = Folder::new();
    export(&folder, "perfetto", "t.json");
    let whole: Value = serde_json::from_str(&folder.read("t.json")).unwrap();
    let events = whole["traceEvents"].as_array().unwrap();
    let lanes = lanes(events);
    for (lane, slices) in &lanes {
        for (i, (start, end, name)) in slices.iter().enumerate() {
            for (from, to, other) in &slices[..i] {
                let apart = end <= from || to <= start;
                let within = (from <= start && end <= to) || (start <= from && to <= end);
                assert!(apart || within, "{name} and {other} cross in lane {lane:?}");
            }
        }
    }
    let of_process = |name: &str| {
        let named = events.iter().find(|e| e["name"] == "process_name" && e["args"]["name"] == name);
        named.unwrap_or_else(|| panic!("{name} is no process"))["pid"].as_i64().unwrap()
    };
    let router = of_process("router");
    let mut sent = 0;
    for start in events.iter().filter(|event| event["ph"] == "s") {
        let end = events.iter().find(|event| event["ph"] == "f" && event["id"] == start["id"]).unwrap();
        assert_eq!((start["pid"].as_i64().unwrap(), &end["bp"]), (router, &Value::from("e")));
        for arrow in [start, end] {
            let lane = (arrow["pid"].as_i64().unwrap(), arrow["tid"].as_i64().unwrap());
            let at = ns(&arrow["ts"]);
            assert!(lanes[&lane].iter().any(|(from, to, _)| *from <= at && at <= *to), "{arrow}");
        }
        sent += 1;
    }
    let records = requests();
    let count = |of: &str| records.iter().map(|r| r[of].as_array().map_or(0, Vec::len)).sum::<usize>();
    let answered = records.iter().filter(|record| record.get("router_send_ns").is_some()).count();
    assert_eq!(sent, answered + count("failed_attempts"));
    for worker in records.iter().filter_map(|record| record["worker"].as_str()) {
        of_process(worker);
    }
}

#[test]
fn each_request_shows_its_stages_and_times_to_the_nanosecond() {
    let folder = Folder::new();
    export(&folder, "perfetto", "t.json");
    let whole: Value = serde_json::from_str(&folder.read("t.json")).unwrap();
    let events = whole["traceEvents"].as_array().unwrap();
    let names: Vec<&str> = events.iter().filter_map(|event| event["name"].as_str()).collect();
    for name in
        ["router queue", "decision", "at worker", "server queue", "prefill", "decode", "failed attempt"]
    {
        assert!(names.contains(&name), "no {name}");
    }
    assert!(names.contains(&"worker healthy"));
    let t0: i64 = whole["otherData"]["t0_unix_ns"].as_str().unwrap().parse().unwrap();
    for record in &requests() {
        let seq = &record["seq"];
        let is_it = |event: &&Value| event["cat"] == "request" && event["args"]["seq"] == *seq;
        let event = events.iter().find(is_it).unwrap();
        assert_eq!(t0 + ns(&event["ts"]), record["arrival_unix_ns"].as_i64().unwrap());
        assert_eq!(ns(&event["dur"]), record["end_ns"].as_i64().unwrap());
        assert_eq!(event["args"]["request_id"], record["request_id"]);
    }
}
