//! Sessions: a turn waits for the answer before it, and says it again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::body::Backend;
use milepost::load::dataset::{
    Dataset, MultiTurnOptions, SharedPrefixOptions, TraceFormat, TraceOptions, WekaOptions,
};
use milepost::load::row::Row;
use milepost::load::schedule::{Arrivals, Pace, Rate, Schedule, Shape, Stages, TracePace};
use milepost::load::{LoadConfig, RunReport, run};
use milepost::report::csv;
use serde_json::json;

use crate::server::{Got, Server, Step, about, stream};
use crate::{config, data};

const SECOND_NS: i64 = 1_000_000_000;

/// Runs against a server whose answers take `answer_s`.
async fn talked(config: LoadConfig, answer: fn(&Got) -> Option<Vec<Step>>) -> (RunReport, Vec<Got>) {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let server = Server::new(&clock, move |got| {
        about(got).or_else(|| answer(got)).unwrap_or_else(|| two_seconds(got))
    });
    let report = run(config, server.context()).await.unwrap();
    (report, server.load())
}

fn two_seconds(got: &Got) -> Vec<Step> {
    let name = match got.path.as_str() {
        "/generate" => "sglang-0.5.23_generate_stream.sse",
        _ => "sglang-0.5.23_chat_stream_usage.sse",
    };
    let events = data(name);
    let count = events.split_inclusive("\n\n").count() as u32;
    stream(&events, Duration::from_secs(2) / count)
}

fn talk(users: u32, turns: u32) -> MultiTurnOptions {
    MultiTurnOptions {
        users,
        turns,
        system_tokens: 8,
        question_tokens: 4,
        output_tokens: 8,
        think_s: 3.0,
        constant_think: true,
        ..MultiTurnOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_says_what_was_said_and_comes_after_thinking() {
    let config = LoadConfig {
        dataset: Dataset::MultiTurn(talk(3, 3)),
        arrivals: Rate::PerSecond(1.0).into(),
        ..config("http://pipe:1", 1000)
    };
    let (report, got) = talked(config, |_| None).await;
    assert_eq!((report.rows.len(), got.len()), (9, 9));
    let text_of = |id: &str| {
        let one = got.iter().find(|g| g.header("x-request-id") == Some(id)).unwrap();
        one.body["text"].as_str().unwrap().to_owned()
    };
    for session in 1..=3 {
        let rows: Vec<_> = report.rows.held().iter().filter(|r| r.turn.unwrap().0 == session).collect();
        assert_eq!(rows.iter().map(|r| r.turn.unwrap().1).collect::<Vec<_>>(), [1, 2, 3]);
        for pair in rows.windows(2) {
            assert!(pair[1].success(), "{:?}", pair[1].failure);
            let (before, text) = (text_of(&pair[0].req_id), text_of(&pair[1].req_id));
            let said = format!("{before}H zojiH zojiH zojiH zoji\n\n");
            assert!(text.starts_with(&said) && text.len() > said.len(), "{text:?}");
            assert_eq!(pair[1].input_words, Some(text.split_whitespace().count() as u64));
            let thought_ns = pair[1].scheduled_ns - pair[0].client_end_ns.unwrap();
            assert!((3 * SECOND_NS..3 * SECOND_NS + 5_000_000).contains(&thought_ns), "{thought_ns}");
            assert!(pair[1].lateness_ns().unwrap() < 5_000_000);
        }
    }
    // Only beginnings have due times that were fixed before.
    assert_eq!(report.schedule.at_ns.len(), 3);
    let table = csv::csv(&report.rows);
    assert!(table.lines().next().unwrap().ends_with(",session,turn"));
    assert!(table.lines().nth(9).unwrap().ends_with(",3,3"));
}

#[tokio::test(start_paused = true)]
async fn a_chat_is_sent_as_its_messages() {
    let config = LoadConfig {
        dataset: Dataset::MultiTurn(talk(1, 2)),
        backend: Backend::Chat,
        model: Some("m".to_owned()),
        ..config("http://pipe:1", 1000)
    };
    let (_, got) = talked(config, |_| None).await;
    let messages = got[1].body["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0], got[0].body["messages"][0]);
    assert_eq!(messages[1]["role"], json!("assistant"));
    assert!(!messages[1]["content"].as_str().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_a_turn_that_fails_and_each_turn_is_a_row() {
    let config = LoadConfig { dataset: Dataset::MultiTurn(talk(2, 3)), ..config("http://pipe:1", 1000) };
    let (report, got) = talked(config, |got| {
        let again = got.body["text"].as_str().is_some_and(|text| text.contains("zoji"));
        again.then(|| vec![Step::Write(b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n".to_vec())])
    })
    .await;
    assert_eq!(got.len(), 4);
    assert_eq!(report.rows.len(), 6);
    for session in 1..=2 {
        let rows = report.rows.held().iter().filter(|r| r.turn.unwrap().0 == session);
        let classes: Vec<_> = rows.map(|r| r.failure.as_ref().map(|f| f.class.name())).collect();
        assert_eq!(classes, [None, Some("http_status"), Some("not_sent")]);
    }
}

fn trace(format: TraceFormat, name: &str) -> TraceOptions {
    let path = PathBuf::from(format!("{}/tests/data/load/{name}", env!("CARGO_MANIFEST_DIR")));
    TraceOptions {
        format,
        path: Some(path),
        output_tokens: None,
        context_tokens: None,
        until: None,
        vocabulary: 1000,
    }
}

fn at_its_times(trace: TraceOptions, speedup: f64) -> LoadConfig {
    let pace = TracePace { speedup, keep_ticks: false };
    let pace = Pace::Trace { pace, schedule: Arc::new(Schedule::default()) };
    LoadConfig {
        dataset: Dataset::Trace(trace),
        arrivals: Arrivals { pace, ..Rate::AllAtOnce.into() },
        ..config("http://pipe:1", 1000)
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_a_trace_waits_for_its_chat_and_for_its_time() {
    let trace = trace(TraceFormat::Bailian, "bailian_small.jsonl");
    let (report, _) = talked(at_its_times(trace, 1.0), |_| None).await;
    assert_eq!(
        report.rows.held().iter().map(|r| r.turn.unwrap()).collect::<Vec<_>>(),
        [(1, 1), (2, 1), (1, 2), (1, 3)]
    );
    assert_eq!(report.schedule.at_ns, [0, 500_000_000]);
    // The second turn was due at 1 s, but its chat's first answer ends at 2 s; the third is due at 9 s.
    let due_ns: Vec<i64> = report.rows.held().iter().map(|r| r.scheduled_ns).collect();
    assert!((2 * SECOND_NS..2 * SECOND_NS + 50_000_000).contains(&due_ns[2]), "{due_ns:?}");
    assert_eq!(due_ns[3], 9 * SECOND_NS);
    let reuse = report.reuse.unwrap();
    assert_eq!((reuse.cached_tokens, reuse.prompt_tokens), (16 + 32 + 64, 190));
}

fn weka(sessions: Option<u32>) -> TraceOptions {
    let format = TraceFormat::Weka(WekaOptions { sessions, most_think: Duration::from_secs(60) });
    trace(format, "weka")
}

/// Each answer takes 2 s here; the sub-tasks of the first session begin 3 and 4 s after its first answer, its third call 1 s after
/// the one that was answered last, and its fourth would come 488 s after that.
#[tokio::test(start_paused = true)]
async fn calls_of_a_recorded_session_wait_for_answers_and_think_as_recorded() {
    let (report, got) = talked(at_its_times(weka(None), 1.0), |_| None).await;
    let rows = |session: u32| report.rows.held().iter().filter(move |r| r.turn.unwrap().0 == session);
    let about_s = |ns: i64| (ns + 250_000_000) / SECOND_NS;
    let due_s = |session| rows(session).map(|r| about_s(r.scheduled_ns)).collect::<Vec<_>>();
    assert_eq!(due_s(1), [0, 5, 9, 6, 12, 74]);
    assert_eq!(due_s(2), [0, 5]);
    assert_eq!(rows(1).map(|r| r.turn.unwrap().1).collect::<Vec<_>>(), [1, 2, 3, 2, 4, 5]);
    let reuse = report.reuse.unwrap();
    assert_eq!((reuse.cached_tokens, reuse.prompt_tokens), (16 + 16 + 32 + 48 + 32, 332));

    let sent = |row: &Row| -> Vec<u64> {
        let one = got.iter().find(|g| g.header("x-request-id") == Some(&row.req_id)).unwrap();
        serde_json::from_value(one.body["input_ids"].clone()).unwrap()
    };
    let (first, second): (Vec<_>, Vec<_>) = (rows(1).map(sent).collect(), rows(2).map(sent).collect());
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [40, 20, 36, 18, 60, 75]);
    let shared = |a: &[u64], b: &[u64]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    assert_eq!((shared(&first[0], &first[4]), shared(&first[4], &first[5])), (32, 48));
    assert_eq!((shared(&first[1], &first[2]), shared(&first[0], &first[1])), (16, 0));
    // Their ids are the same numbers, and mean other text.
    assert_eq!((shared(&first[0], &second[0]), shared(&second[0], &second[1])), (0, 32));
}

#[tokio::test(start_paused = true)]
async fn recorded_sessions_can_be_sped_up_and_cut() {
    let (report, _) = talked(at_its_times(weka(Some(1)), 2.0), |_| None).await;
    let halves = |r: &Row| (r.scheduled_ns + SECOND_NS / 10) / (SECOND_NS / 2);
    // Half seconds: answers take what they take, thinking half as long.
    assert_eq!(report.rows.held().iter().map(halves).collect::<Vec<_>>(), [0, 7, 13, 8, 18, 82]);
    let told = Dataset::Trace(weka(None)).load(3, 1, true).unwrap();
    assert!(
        told.notes.iter().any(|note| note.contains("--num-prompts ends in the middle of session 1")),
        "{:?}",
        told.notes
    );
    assert_eq!(told.prompts.len(), 3);
    let until = Some(Duration::from_secs(8));
    let told = Dataset::Trace(TraceOptions { until, ..weka(None) }).load(100, 1, true).unwrap();
    assert_eq!(told.prompts.iter().map(|p| p.planned_tokens).collect::<Vec<_>>(), [40, 20, 18, 33, 50]);
    assert!(told.notes.iter().any(|n| n.contains("2 sessions; the trace does not tell")), "{:?}", told.notes);
}

/// As of a file that is too short: what was measured is a burst, and not the rate for the time that was asked for.
#[tokio::test(start_paused = true)]
async fn a_run_says_that_its_data_set_ends_before_its_time() {
    let talks = || Dataset::MultiTurn(talk(3, 2));
    let shared = SharedPrefixOptions { groups: 2, prompts_per_group: 2, ..SharedPrefixOptions::default() };
    let stages = || Pace::Stages(Stages::parse("1@4s,2@3s").unwrap());
    let rate = || Pace::Rate(Rate::PerSecond(1.0));
    let most = 10_000_000;
    for (dataset, pace, count, said) in [
        (talks(), rate(), 10, Some("3 sessions to send, and none is sent twice: --duration asked for 10")),
        (talks(), stages(), 10, Some("3 sessions to send, and none is sent twice: --stages asked for 10")),
        (
            Dataset::SharedPrefix(shared),
            rate(),
            10,
            Some("4 prompts to send, and none is sent twice: --duration asked for 10"),
        ),
        (
            Dataset::Trace(weka(None)),
            rate(),
            most,
            Some("2 sessions to send, and none is sent twice: --duration asked for 10"),
        ),
        // It is the number that ends it.
        (Dataset::Trace(weka(None)), rate(), 3, None),
        (Dataset::MultiTurn(talk(10, 1)), rate(), 10, None),
        (Dataset::MultiTurn(talk(30, 1)), rate(), 10, None),
        (talks(), Pace::Rate(Rate::AllAtOnce), 1000, None),
    ] {
        let duration = matches!(pace, Pace::Rate(Rate::PerSecond(_))).then_some(Duration::from_secs(10));
        let arrivals = Arrivals { pace, shape: Shape::Constant, duration };
        let (report, _) =
            talked(LoadConfig { dataset, arrivals, ..config("http://pipe:1", count) }, |_| None).await;
        let told: Vec<&String> =
            report.notes.iter().filter(|note| note.contains("none is sent twice")).collect();
        assert_eq!(told.len(), usize::from(said.is_some()), "{said:?}: {told:?}");
        assert!(said.is_none_or(|said| told[0].contains(said)), "{said:?}: {told:?}");
    }
}

/// Another think time in the file is another think time in the run; the data set's own would be 3 s.
#[tokio::test(start_paused = true)]
async fn a_saved_schedule_says_when_turns_come() {
    let first = LoadConfig { dataset: Dataset::MultiTurn(talk(2, 3)), ..config("http://pipe:1", 1000) };
    let (report, _) = talked(first.clone(), |_| None).await;
    let mut saved = (*report.schedule).clone();
    assert_eq!(saved.waits.iter().map(|w| (w.after, w.think_ns)).collect::<Vec<_>>().len(), 4);
    assert!(saved.waits.iter().all(|wait| wait.think_ns == 3_000_000_000));
    saved.waits[0].think_ns = 7_000_000_000;
    let again = |dataset| LoadConfig {
        dataset,
        arrivals: Arrivals { pace: Pace::Saved(Arc::new(saved.clone())), ..Rate::AllAtOnce.into() },
        ..first.clone()
    };
    let (report, _) = talked(again(Dataset::MultiTurn(talk(2, 3))), |_| None).await;
    assert_eq!(*report.schedule, saved);
    let turn_2 =
        |session: u32| report.rows.held().iter().find(|r| r.turn == Some((session, 2))).unwrap().scheduled_ns;
    let later_ns = turn_2(1) - turn_2(2);
    assert!((4 * SECOND_NS - 50_000_000..4 * SECOND_NS + 50_000_000).contains(&later_ns), "{later_ns}");
    // Other sessions than it was made for.
    let (report, _) = talked(again(Dataset::MultiTurn(talk(2, 2))), |_| None).await;
    assert!(
        report.notes.iter().any(|note| note.contains("think times are the data set's")),
        "{:?}",
        report.notes
    );
}
