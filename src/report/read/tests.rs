//! What is written is read back: rows, figures, and files that are broken.

use proptest::prelude::*;

use super::*;
use crate::load::failure::{Class, Failure};
use crate::load::row::{Gap, example};
use crate::report::Metrics;
use crate::report::csv::csv;
use crate::report::gather::Gathering;
use crate::report::json::row_json;
use crate::report::tokens;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("milepost-read-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lines(rows: &[Row]) -> String {
    let mut text = Vec::new();
    tokens::write(&mut text, rows).unwrap();
    String::from_utf8(text).unwrap()
}

fn read(path: &Path) -> Result<(Vec<Row>, Facts), ReadError> {
    let mut rows = Vec::new();
    let all = inputs(&[path.to_owned()])?;
    let facts = all[0].rows(&mut |_, row| rows.push(row.clone()))?;
    Ok((rows, facts))
}

/// What no file holds.
fn as_in_files(row: Row, with_tokens: bool) -> Row {
    let told = row.decode_length();
    Row {
        queue_in_server_ns: row.queue_time_in_server_ns(),
        counted_tokens: told,
        gaps_from_ns: row.gaps_from_ns.filter(|_| with_tokens),
        gaps: if with_tokens { row.gaps } else { Vec::new() },
        streamed: false,
        reused_connection: false,
        ..row
    }
}

fn a_row() -> impl Strategy<Value = Row> {
    let times =
        (any::<u32>(), 0_i64..1_000_000_000, proptest::option::of(0_i64..1_000_000_000), any::<bool>());
    let texts = ("[ -~\\n,\"é]{0,20}", "[ -~]{1,12}", proptest::option::of("[a-z ,]{1,9}"));
    let counts = (0_u64..9, proptest::option::of(1_u32..9), proptest::option::of((1_u32..9, 1_u32..9)));
    (times, texts, counts).prop_map(|((id, later, end, in_trace), (error, host, phase), (n, group, turn))| {
        Row {
            req_id: id.to_string(),
            failure: (n == 0).then(|| Failure::new(Class::Truncated, error)),
            host: Some(host),
            phase,
            group,
            turn,
            in_trace,
            attempts: in_trace.then_some(1),
            completion_tokens: (n > 4).then_some(n),
            client_end_ns: end,
            sent_ns: Some(later - 500_000_000),
            missing: vec![("queue_time_end", crate::trace::align::NOT_SENT)],
            gaps: vec![Gap { ns: later as u64, tokens: 2, member: 0 }; n as usize],
            ..example()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_row_comes_back(rows in proptest::collection::vec(a_row(), 1..12), with_tokens: bool) {
        let folder = Folder::new("rows");
        let path = folder.write(CSV, &csv(&rows));
        if with_tokens {
            folder.write(TOKENS, &lines(&rows));
        }
        let (back, facts) = read(&path).unwrap();
        let expected: Vec<Row> = rows.iter().cloned().map(|r| as_in_files(r, with_tokens)).collect();
        prop_assert_eq!(back, expected);
        prop_assert_eq!(facts.notes.len(), usize::from(!with_tokens), "{:?}", facts.notes);
        let all = serde_json::json!({ "per_request": rows.iter().map(row_json).collect::<Vec<_>>() });
        let (back, _) = read(&folder.write("run.json", &all.to_string())).unwrap();
        let expected: Vec<Row> = rows.into_iter().map(|r| as_in_files(r, false)).collect();
        prop_assert_eq!(back, expected);
    }

    /// Every aggregate of the files is that of the run.
    #[test]
    fn the_figures_of_the_files_are_those_of_the_run(rows in proptest::collection::vec(a_row(), 1..40)) {
        let folder = Folder::new("figures");
        let path = folder.write(CSV, &csv(&rows));
        folder.write(TOKENS, &lines(&rows));
        let mut gathering = Gathering::bounded(Side::Client);
        inputs(&[path]).unwrap()[0].rows(&mut |_, row| gathering.add(row)).unwrap();
        let gathered = gathering.gathered();
        prop_assert_eq!(gathered.metrics.to_json(), Metrics::of(&rows).to_json());
        prop_assert_eq!(gathered.metrics.running, Metrics::of(&rows).running);
    }
}

#[test]
fn a_table_of_the_inherited_columns_alone_is_enough() {
    let folder = Folder::new("inherited");
    let text = csv(&[example(), example()]);
    let cut = |line: &str| line.split(',').take(26).collect::<Vec<_>>().join(",");
    let text = text.lines().map(cut).collect::<Vec<_>>().join("\r\n");
    let (rows, facts) = read(&folder.write("old.csv", &text)).unwrap();
    assert_eq!((rows.len(), facts.side), (2, Side::Router));
    assert_eq!((rows[0].ttft_ns, rows[0].total_latency_ns()), (Some(21_000_000), Some(61_000_000)));
    assert_eq!(rows[0].scheduled_ns, rows[0].arrival_ns.unwrap());
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    let folder = Folder::new("broken");
    let good = csv(&[example(), example()]);
    let fails = |name: &str, text: &str| read(&folder.write(name, text)).unwrap_err().to_string();
    let error = fails("a.csv", &good.replace("0.021000000", "soon"));
    assert!(error.contains("line 2: column ttft: expected seconds, got \"soon\""), "{error}");
    let error = fails("b.csv", &good.replacen("server_patch,", "", 1));
    assert!(error.contains("line 2: 62 cells under 63 names"), "{error}");
    assert!(fails("c.csv", "a,b\n1,2\n").contains("none of them"));
    assert!(fails("d.json", "{\"metrics\":{}}").contains("no per_request"));
    assert!(
        fails("e.json", "{\"per_request\":[{\"ttft\":\"x\"}]}").contains("request 1 of per_request: ttft")
    );
    assert!(fails("f.json", "{\"per_request\":[]}\n{\"per_request\":[]}").contains("more than one run"));
    assert!(fails("run.json", "{\"per_request\":null}").contains("requests.csv instead"));
    assert!(fails("g.jsonl", "{\"kind\":\"nothing\"}\n").contains("not a milepost trace"));
    assert!(read(&folder.0.join("none")).unwrap_err().to_string().contains("none: No such file"));
    // A crash may tear the last line; what is before it counts.
    let torn = folder.write("h.csv", good.trim_end_matches('\n').rsplit_once(",1,").unwrap().0);
    let (rows, facts) = read(&torn).unwrap();
    assert_eq!(rows.len(), 1);
    assert!(facts.notes.iter().any(|n| n.contains("line 3 is torn")), "{:?}", facts.notes);
}

#[test]
fn a_last_line_that_is_torn_inside_its_last_cell_is_left_out() {
    let folder = Folder::new("last-cell");
    let whole = csv(&[example(), example()]);
    let (rows, facts) = read(&folder.write(CSV, whole.trim_end())).unwrap();
    assert_eq!(rows.len(), 1);
    assert!(facts.notes.iter().any(|n| n.contains("line 3 is torn")), "{:?}", facts.notes);
    let own = whole.replace("\r\n", "\n").replace('\n', ",mine\n");
    let (rows, facts) = read(&folder.write(CSV, &own)).unwrap();
    assert_eq!(rows.len(), 2);
    assert!(facts.notes.contains(&"columns passed over: mine".to_owned()), "{:?}", facts.notes);
}

#[test]
fn the_parts_of_a_capture_are_one_trace() {
    let folder = Folder::new("capture");
    let clock = "{\"kind\":\"clock\",\"mono_ns\":1,\"unix_ns\":2,\"bracket_ns\":1}\n";
    folder.write("c/trace.jsonl", clock);
    let packed = zstd::encode_all(clock.as_bytes(), 1).unwrap();
    fs::write(folder.0.join("c/trace.000001.jsonl.zst"), packed).unwrap();
    for path in ["c", "c/trace*", "c/trace.000001.jsonl.zst"] {
        let found = inputs(&[folder.0.join(path)]).unwrap();
        assert_eq!((found.len(), found[0].kind), (1, Kind::Trace), "{path}");
        assert!(found[0].rows(&mut |_, _| ()).is_ok(), "{path}");
    }
    folder.write("none.x", "a\n");
    assert!(inputs(&[folder.0.join("no*.x")]).unwrap_err().to_string().contains("does not begin as a trace"));
}

#[test]
fn a_folder_is_a_run_or_holds_runs() {
    let folder = Folder::new("folders");
    let nothing = inputs(std::slice::from_ref(&folder.0)).unwrap_err().to_string();
    assert!(nothing.contains("no requests.csv or run.json"), "{nothing}");
    for arm in ["b/round_robin", "a/random", "c/random"] {
        folder.write(&format!("{arm}/requests.csv"), &csv(&[example()]));
    }
    let of = |names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.0.join(name)).collect();
        inputs(&paths).map(|all| all.into_iter().map(|i| i.name).collect::<Vec<_>>())
    };
    assert_eq!(of(&["b", "a", "c/random/requests.csv"]).unwrap(), ["round_robin", "random", "random (2)"]);
    assert!(of(&["a"; 13]).unwrap_err().to_string().contains("at most 12"));
}

#[test]
fn a_run_is_called_what_was_given_with_its_path() {
    let folder = Folder::new("named");
    for run in ["b/round_robin", "a/random", "a/x=1"] {
        folder.write(&format!("{run}/requests.csv"), &csv(&[example()]));
    }
    let of = |given: &[&str]| {
        let there = folder.0.display().to_string();
        let paths: Vec<PathBuf> = given.iter().map(|text| text.replace('@', &there).into()).collect();
        inputs(&paths).map(|all| all.into_iter().map(|i| (i.name, i.is_named)).collect::<Vec<_>>())
    };
    let named = |name: &str| (name.to_owned(), true);
    assert_eq!(of(&["old=@/b/round_robin", "new=@/a"]).unwrap(), ["old", "new/random", "new/x=1"].map(named));
    assert_eq!(of(&["@/a/x=1"]).unwrap(), [("x=1".to_owned(), false)], "what is there is a path");
    let error = of(&["old=@/none"]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}/none: ", folder.0.display())), "{error}");
}
