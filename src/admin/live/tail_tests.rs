//! What is seen of a trace file that grows, is rotated, or is another router's.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::trace::example::run_record;
use crate::trace::parts::{PACKED_END, part_path};
use crate::trace::record::{Outcome, RequestKind, RunRecord};

const NOW: ClockSnapshot = ClockSnapshot { mono_ns: 1_000, unix_ns: 2_000, bracket_ns: 0 };

struct Scene {
    folder: PathBuf,
    place: Place,
    reader: Reader,
    rows: Rows,
    skipped: Skipped,
}

impl Scene {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("milepost-live-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let place = Place { path: folder.join("t.jsonl"), part: 1 };
        Self { folder, place, reader: Reader::default(), rows: Rows::default(), skipped: Skipped::default() }
    }

    fn append(&self, texts: &[&str]) {
        let mut file = File::options().create(true).append(true).open(&self.place.path).unwrap();
        file.write_all(texts.concat().as_bytes()).unwrap();
    }

    fn rotate(&mut self) {
        std::fs::rename(&self.place.path, part_path(&self.place.path, self.place.part)).unwrap();
        self.place.part += 1;
    }

    /// As the thread does that packs what was rotated away.
    fn pack(&self) {
        let plain = part_path(&self.place.path, self.place.part - 1);
        let packed = zstd::encode_all(File::open(&plain).unwrap(), 1).unwrap();
        std::fs::write(format!("{}{PACKED_END}", plain.display()), packed).unwrap();
        std::fs::remove_file(plain).unwrap();
    }

    /// The paths of the requests that are held after a look.
    fn look(&mut self) -> Vec<String> {
        let (lines, skipped) = self.reader.read(&self.place).unwrap();
        self.skipped.add(skipped);
        self.reader.take(&lines, "me", NOW, &mut self.rows);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&self.rows.after(0)).unwrap();
        rows.iter().map(|row| row["record"]["path"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn request(path: &str) -> String {
    let record =
        RequestRecord { path: path.to_owned().into(), outcome: Outcome::Done, ..RequestRecord::default() };
    serde_json::to_string(&Record::Request(Box::new(record))).unwrap() + "\n"
}

fn run(instance: &str, requests_before: u64) -> String {
    let capture =
        CaptureRecord { instance: instance.to_owned(), part: 1, requests_before, ..CaptureRecord::default() };
    let run = RunRecord { capture: Some(capture), ..run_record(NOW) };
    serde_json::to_string(&Record::Run(run)).unwrap() + "\n"
}

#[test]
fn what_is_appended_is_seen_once_over_a_rotation_and_a_torn_line_when_it_is_whole() {
    let mut scene = Scene::new("grows");
    let second = request("/b");
    let (torn, rest) = second.split_at(20);
    scene.append(&[&run("me", 0), &request("/a"), torn]);
    assert_eq!(scene.look(), ["/a"]);
    scene.append(&[rest]);
    assert_eq!((scene.look(), scene.look().len()), (vec!["/a".to_owned(), "/b".to_owned()], 2));
    scene.append(&[&request("/c")]);
    scene.rotate();
    scene.append(&[&run("me", 3), &request("/d")]);
    assert_eq!(scene.look(), ["/a", "/b", "/c", "/d"]);
    assert_eq!(scene.skipped.bytes, 0);
}

#[test]
fn what_was_rotated_away_and_packed_since_the_last_look_is_seen_and_of_too_much_its_end() {
    let mut scene = Scene::new("packed");
    scene.append(&[&run("me", 0), &request("/a")]);
    assert_eq!(scene.look(), ["/a"]);
    scene.append(&[&request("/b")]);
    scene.rotate();
    scene.pack();
    scene.append(&[&run("me", 2), &request("/c")]);
    assert_eq!((scene.look().join(" "), scene.skipped.bytes), ("/a /b /c".to_owned(), 0));
    let filler = format!("{}\n", "x".repeat(2 * READ_BYTES as usize));
    let grown = [request("/missed"), filler, request("/last")].concat();
    scene.append(&[&grown]);
    scene.rotate();
    scene.pack();
    scene.append(&[&run("me", 4), &request("/d")]);
    assert_eq!(scene.look().join(" "), "/a /b /c /last /d");
    assert_eq!(scene.skipped.bytes, grown.len() as u64 - READ_BYTES);
    // One that was removed for room leaves the rest as it is.
    scene.rotate();
    std::fs::remove_file(part_path(&scene.place.path, 3)).unwrap();
    scene.append(&[&run("me", 5), &request("/e")]);
    assert_eq!(scene.look().last().unwrap(), "/e");
}

#[test]
fn files_that_are_too_long_or_too_many_for_a_look_are_passed_over_and_counted() {
    let mut scene = Scene::new("many");
    scene.append(&[&run("me", 0), &request("/a")]);
    assert_eq!(scene.look(), ["/a"]);
    for path in ["/b", "/c", "/d"] {
        scene.append(&[&request(path)]);
        scene.rotate();
        scene.pack();
    }
    scene.append(&[&run("me", 4), &request("/e")]);
    assert_eq!((scene.look().join(" "), scene.skipped), ("/a /e".to_owned(), Skipped { bytes: 0, files: 3 }));
    assert_eq!((scene.look().len(), scene.skipped.files), (2, 3), "counted once");
    let packed = part(&scene.place.path, 1).unwrap().path;
    let bytes = [run("me", 0), request("/a"), request("/b")].concat().len() as u64;
    let end = |from_bytes, most_bytes| end_of_packed(&packed, from_bytes, most_bytes).unwrap();
    assert_eq!(end(0, bytes).unwrap().next_bytes, bytes);
    assert!(end(0, bytes - 1).is_none() && end(bytes, bytes - 1).is_none());
}

#[test]
fn all_who_ask_for_the_same_share_one_answer_and_few_are_kept() {
    let mut scene = Scene::new("told");
    let lines: String = (0..20).map(|n| request(&format!("/{n}"))).collect();
    scene.append(&[&lines]);
    scene.look();
    let mut seen = Seen { rows: std::mem::take(&mut scene.rows), ..Seen::default() };
    let first = seen.told("me", 18);
    assert!((0..100).all(|_| seen.told("me", 18).as_ptr() == first.as_ptr()), "made once");
    let told: serde_json::Value = serde_json::from_slice(&first).unwrap();
    assert_eq!((&told["next"], told["requests"].as_array().unwrap().len()), (&20.into(), 2));
    assert_eq!(seen.told("me", 20).as_ptr(), seen.told("me", u64::MAX).as_ptr(), "nothing is newer");
    for after in 0..20 {
        seen.told("me", after);
    }
    assert_eq!(seen.told.len(), MAX_TOLD);
}

#[test]
fn a_file_that_was_begun_by_another_router_shows_this_one_alone() {
    let mut scene = Scene::new("other");
    scene.append(&[&run("other", 0), &request("/old"), &run("me", 0), &request("/new")]);
    assert_eq!(scene.look(), ["/new"]);
    scene.append(&[&run("me", 1), &request("/after a stop")]);
    assert_eq!(scene.look(), ["/new", "/after a stop"]);
}

#[test]
fn of_what_grew_too_fast_the_end_is_seen_and_the_rest_counted() {
    let mut scene = Scene::new("fast");
    scene.append(&[&request("/first")]);
    assert_eq!(scene.look(), ["/first"]);
    let filler = format!("{}\n", "x".repeat(READ_BYTES as usize));
    let grown = [request("/missed"), filler, request("/last")].concat();
    scene.append(&[&grown]);
    assert_eq!(scene.look(), ["/first", "/last"]);
    assert_eq!(scene.skipped.bytes, grown.len() as u64 - READ_BYTES);
    // Somebody began the file anew under its name.
    std::fs::write(&scene.place.path, request("/anew")).unwrap();
    assert_eq!(scene.look().last().unwrap(), "/anew");
}

#[test]
fn probes_and_the_page_itself_are_not_shown_and_a_strange_line_harms_nothing() {
    let mut scene = Scene::new("shown");
    let local = |path: &str, error: Option<&str>| {
        let record = RequestRecord {
            path: path.to_owned().into(),
            request_kind: RequestKind::Local,
            error: error.map(str::to_owned),
            ..RequestRecord::default()
        };
        serde_json::to_string(&Record::Request(Box::new(record))).unwrap() + "\n"
    };
    scene.append(&[&local("/health", None), "no JSON\n{}\n", &local("/milepost/fleet", Some("401"))]);
    scene.append(&[&local("/workers/x", Some("no such worker")), &request("/generate")]);
    assert_eq!(scene.look(), ["/workers/x", "/generate"]);
}
