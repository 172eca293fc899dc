//! Tests of the JSON cursor; `serde_json` is the oracle.

use proptest::prelude::*;

use super::*;

fn whole(bytes: &[u8]) -> bool {
    let mut c = Cursor::new(bytes);
    c.skip().is_ok() && c.end().is_ok()
}

fn text(json: &str) -> String {
    Cursor::new(json.as_bytes()).str().unwrap().unwrap().string().into_owned()
}

#[test]
fn escapes_are_undone_and_lone_surrogates_replaced() {
    assert_eq!(text(r#""a\n\"\\\/\b\f\r\t\u00e9\ud83d\ude00z""#), "a\n\"\\/\u{8}\u{c}\r\té😀z");
    assert_eq!(text(r#""a\ud83dz\ude00\ud83d\u0041""#), "a\u{fffd}z\u{fffd}\u{fffd}A");
}

#[test]
fn numbers_are_read_as_counts_only_when_whole() {
    let count = |s: &str| Cursor::new(s.as_bytes()).u64().unwrap();
    assert_eq!(count("8"), Some(8));
    assert_eq!(count("8.0"), Some(8));
    assert_eq!(count("18446744073709551615"), Some(u64::MAX));
    for wrong in ["8.5", "-1", "1e30", "\"8\"", "null", "[8]"] {
        assert_eq!(count(wrong), None, "{wrong}");
    }
    assert_eq!(Cursor::new(b"1e999").f64(), Ok(None));
    assert_eq!(Cursor::new(b"1795302685.0593002").f64(), Ok(Some(1_795_302_685.059_300_2)));
}

#[test]
fn plain_counts_are_joined_and_all_else_is_left() {
    let counts = |json: &str| {
        let mut out = b"7".to_vec();
        let mut cursor = Cursor::new(json.as_bytes());
        let done = cursor.counts(&mut out);
        assert_eq!(done, cursor.end().is_ok(), "{json}");
        assert!(done || out == b"7", "{json}");
        done.then(|| String::from_utf8(out).unwrap())
    };
    assert_eq!(counts(" [1, 20 ,\n300]").as_deref(), Some("7 1 20 300"));
    assert_eq!(counts("[0]").as_deref(), Some("7 0"));
    for other in
        ["[]", "[1,]", "[,1]", "[1 2]", "[01]", "[-1]", "[1.5]", "[1e3]", "[1", "[1,\"a\"]", "[[1]]", "1"]
    {
        assert_eq!(counts(other), None, "{other}");
    }
}

#[test]
fn depth_is_bounded() {
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert!(whole(deep(MAX_DEPTH).as_bytes()));
    assert!(!whole(deep(MAX_DEPTH + 1).as_bytes()));
    assert!(!whole(&b"[".repeat(1_000_000)));
}

#[test]
fn what_is_not_json_is_refused() {
    for bad in [
        "",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "[1,]",
        "{,}",
        "01",
        "1.",
        "1e",
        "-",
        "tru",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "1 2",
    ] {
        assert!(!whole(bad.as_bytes()), "{bad}");
    }
}

proptest! {
    #[test]
    fn accepts_what_serde_json_accepts(s in "[\\[\\]{}:,\" \\\\abnu0-9.eE+-]{0,24}") {
        prop_assert_eq!(whole(s.as_bytes()), serde_json::from_str::<serde::de::IgnoredAny>(&s).is_ok());
    }

    #[test]
    fn reads_back_any_string(s in ".{0,40}", tail in "[a-z]{0,20}") {
        let s = format!("{s}{tail}");
        let json = serde_json::to_string(&s).unwrap();
        prop_assert_eq!(text(&json), s);
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        whole(&bytes);
    }
}
