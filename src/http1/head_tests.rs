//! Heads as they should be, and the ways to write one that two readers would read differently.

use proptest::prelude::*;

use super::*;

type Parsed = (RequestHead, Vec<(String, String)>);

fn parse(text: &str) -> Result<Option<Parsed>, HeadError> {
    let mut bytes = text.as_bytes().to_vec();
    let mut fields = Fields::default();
    let head = request(&mut bytes, &mut fields)?;
    let words = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Ok(head.map(|h| (h, fields.iter(&bytes).map(|(n, v)| (words(n), words(v))).collect())))
}

fn framing(fields: &str) -> Result<Framing, HeadError> {
    Ok(parse(&format!("POST / HTTP/1.1\r\n{fields}\r\n"))?.expect("whole").0.message.framing)
}

fn answer(text: &str, to_head: bool) -> Result<Option<ResponseHead>, HeadError> {
    response(&mut text.as_bytes().to_vec(), &mut Fields::default(), to_head)
}

#[test]
fn a_request_head_is_its_parts() {
    let text = "POST /generate?x=1 HTTP/1.1\r\nHost: a\r\nX-Mixed-Case:  v w \r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    let (head, fields) = parse(text).unwrap().unwrap();
    assert_eq!(
        (head.method(text.as_bytes()), head.target(text.as_bytes())),
        (&b"POST"[..], &b"/generate?x=1"[..])
    );
    assert_eq!(head.message.head_bytes, text.len() - 5);
    assert_eq!((head.message.framing, head.message.content_length), (Framing::Length(5), Some(5)));
    assert!(head.message.keeps_alive && head.message.is_http_11 && head.expects_continue && !head.is_coded);
    assert_eq!(fields[1], ("x-mixed-case".to_owned(), "v w".to_owned()));
}

#[test]
fn connections_are_kept_by_version_and_word() {
    let kept = |version: &str, fields: &str| {
        parse(&format!("GET / HTTP/{version}\r\n{fields}\r\n")).unwrap().unwrap().0.message.keeps_alive
    };
    assert!(kept("1.1", "") && !kept("1.0", ""));
    assert!(!kept("1.1", "connection: x, Close\r\n") && kept("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!kept("1.1", "content-length: 1\r\ntransfer-encoding: chunked\r\n"), "two framings");
    assert!(!kept("1.1", "transfer-encoding: gzip, chunked\r\n"), "not everybody finds the chunks");
}

#[test]
fn one_framing_or_a_refusal() {
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("content-length: 7\r\ncontent-length: 7\r\n"), Ok(Framing::Length(7)));
    assert_eq!(framing("content-length: 3\r\nTransfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    assert_eq!(framing("transfer-encoding: gzip, chunked\r\n"), Ok(Framing::Chunked));
    for bad in [
        "content-length: 7\r\ncontent-length: 8\r\n",
        "content-length: +7\r\n",
        "content-length: -7\r\n",
        "content-length: 7, 7\r\n",
        "content-length: 0x7\r\n",
        "content-length: 7 7\r\n",
        "content-length:\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length : 7\r\n",
        " content-length: 7\r\n",
        "a: b\r\n content-length: 7\r\n",
        "content-length\r\n",
        "content-length: 7\rx: y\r\n",
        "a: b\0\r\n",
    ] {
        assert!(framing(bad).is_err(), "{bad:?}");
    }
    let old = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(parse(old).is_err(), "1.0 has no codings");
    let coded = parse("POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n").unwrap().unwrap().0;
    assert!(coded.is_coded);
}

#[test]
fn what_is_no_request_line_is_refused() {
    for bad in [
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET\t/ HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01",
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\n\r\n",
        "GET / HTTP/1.1\r\n\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx:\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\n",
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    assert!(parse("GET / HTTP/1.1\r\nhost: a\r\n").unwrap().is_none());
    let many = "a: b\r\n".repeat(MAX_FIELDS + 1);
    assert_eq!(framing(&many), Err(HeadError::TooManyFields));
}

#[test]
fn a_response_has_the_body_that_its_request_and_status_allow() {
    let framing = |text: &str, to_head| answer(text, to_head).unwrap().unwrap().message.framing;
    assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false), Framing::Length(3));
    assert_eq!(framing("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", true), Framing::Length(0));
    assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n", false), Framing::Length(0));
    assert_eq!(framing("HTTP/1.1 304 x\r\ncontent-length: 3\r\n\r\n", false), Framing::Length(0));
    assert_eq!(framing("HTTP/1.1 200\r\n\r\n", false), Framing::UntilClose);
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(framing(both, false), Framing::Chunked);
    assert!(answer("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", false).is_err());
    assert!(answer("HTTP/1.1 2x0 OK\r\n\r\n", false).is_err());
    assert!(answer("HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n", false).is_err());
    assert!(answer("it is not HTTP\r\n\r\n", false).is_err());
    assert!(answer("HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n", false).is_err());
    let none = answer("HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n", false).unwrap().unwrap();
    assert_eq!(none.message.content_length, None, "RFC 9110, 8.6");
    for closes in [
        both,
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        assert!(!answer(closes, false).unwrap().unwrap().message.keeps_alive, "{closes:?}");
    }
    assert!(answer("HTTP/1.1 204 No Content\r\n\r\n", false).unwrap().unwrap().message.keeps_alive);
    let until_close = answer("HTTP/1.1 200 OK\r\n\r\n", false).unwrap().unwrap();
    assert!(!until_close.message.keeps_alive);
}

#[test]
fn a_head_is_parsed_once_its_empty_line_is_there() {
    let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for cut in 0..text.len() {
        assert!(!may_be_whole(&text[..cut], 0), "{cut}");
        let seen_before = cut;
        assert!(may_be_whole(text, seen_before), "{cut}");
    }
    assert!(may_be_whole(b"GET / HTTP/1.1\n\n", 0));
}

proptest! {
    #[test]
    fn any_bytes_are_a_head_or_an_error_in_words(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut fields = Fields::default();
        if let Err(error) = request(&mut bytes.clone(), &mut fields) {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = response(&mut bytes.clone(), &mut fields, false);
    }

    #[test]
    fn a_head_cut_anywhere_is_not_whole_and_never_wrong(cut in 0usize..60) {
        let text = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\nx-y: z\r\n\r\n";
        let part = &text[..cut.min(text.len() - 1)];
        prop_assert!(parse(part).unwrap().is_none());
    }
}
