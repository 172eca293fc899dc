//! Requests cut at every place, pipelined ones, and clients that leave.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;

fn pair() -> (Accepted, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    (Accepted::new(Io::Pipe(near), 1024), far)
}

async fn next(accepted: &mut Accepted) -> Result<Option<Request>, Unreadable> {
    let Some(mut request) = poll_fn(|cx| accepted.poll_request(cx)).await? else {
        return Ok(None);
    };
    while poll_fn(|cx| accepted.poll_body(&mut request, cx)).await.map_err(Unreadable::Io)?.is_some() {}
    Ok(Some(request))
}

#[tokio::test]
async fn pipelined_requests_cut_anywhere_come_one_by_one() {
    let text: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\nhelloPOST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nGET /c HTTP/1.1\r\n\r\n";
    for piece in [1, 2, 7, 40, 200] {
        let (mut accepted, mut far) = pair();
        let writing = async {
            for piece in text.chunks(piece) {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        let reading = async {
            let mut seen = Vec::new();
            while let Some(request) = next(&mut accepted).await.unwrap() {
                assert!(request.is_whole());
                seen.push((
                    request.target().to_vec(),
                    request.body().to_vec(),
                    request.field("host").is_some(),
                ));
                accepted.give_back(request);
            }
            seen
        };
        let ((), seen) = tokio::join!(writing, reading);
        let wanted = [(&b"/a"[..], &b"hello"[..], true), (b"/b", b"hi", false), (b"/c", b"", false)];
        let wanted = wanted.map(|(target, body, host)| (target.to_vec(), body.to_vec(), host));
        assert_eq!(seen, wanted, "{piece}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_and_one_that_sends_ahead_is_not_gone() {
    let (mut accepted, mut far) = pair();
    far.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
    let first = next(&mut accepted).await.unwrap().unwrap();
    far.write_all(b"GET /b HTTP/1.1\r\n\r\n").await.unwrap();
    let now = poll_fn(|cx| Poll::Ready(accepted.poll_gone(cx).is_ready())).await;
    assert!(!now && accepted.has_begun());
    drop(far);
    poll_fn(|cx| accepted.poll_gone(cx)).await;
    accepted.give_back(first);
    assert_eq!(next(&mut accepted).await.unwrap().unwrap().target(), b"/b");
}

#[tokio::test]
async fn what_is_no_request_is_told_apart() {
    let cases: [(&[u8], &str); 4] = [
        (b"NOT HTTP\r\n\r\n", "Malformed"),
        (b"GET / HT", "Incomplete"),
        (&[b'a'; 2000], "TooLarge"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "Io"),
    ];
    for (bytes, wanted) in cases {
        let (mut accepted, mut far) = pair();
        far.write_all(bytes).await.unwrap();
        drop(far);
        let error = next(&mut accepted).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{error:?}");
    }
    let (mut accepted, far) = pair();
    drop(far);
    assert!(next(&mut accepted).await.unwrap().is_none(), "closed between two requests");
}

#[tokio::test]
async fn empty_lines_before_a_request_are_no_part_of_one_and_are_not_kept() {
    let (mut accepted, mut far) = pair();
    let lines = async {
        far.write_all(&b"\r\n".repeat(4000)).await.unwrap();
        far.write_all(b"\n\r\nGET /a HTTP/1.1\r\n\r\n\r\n").await.unwrap();
        drop(far);
    };
    let (request, ()) = tokio::join!(next(&mut accepted), lines);
    let request = request.unwrap().expect("a request");
    assert_eq!((request.method(), request.target()), (&b"GET"[..], &b"/a"[..]));
    accepted.give_back(request);
    assert!(next(&mut accepted).await.unwrap().is_none(), "an empty line is no begun request");
    let (mut accepted, mut far) = pair();
    far.write_all(b"\r\n\rGET /a HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(next(&mut accepted).await, Err(Unreadable::Malformed(_))), "a bare CR is no line");
}

#[tokio::test]
async fn empty_lines_without_end_are_no_reason_to_wait() {
    let (mut accepted, mut far) = pair();
    let sending = async move {
        let lines = b"\r\n".repeat(1000);
        for _ in 0..100 {
            if far.write_all(&lines).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let read = next(&mut accepted).await;
        drop(accepted);
        read
    };
    let ((), read) = tokio::join!(sending, reading);
    assert!(matches!(read, Err(Unreadable::TooLarge)), "{read:?}");
}

#[tokio::test]
async fn closing_reads_what_is_still_sent_and_ends() {
    let (accepted, mut far) = pair();
    let sending = async {
        far.write_all(&vec![b'x'; 100_000]).await.unwrap();
        let mut rest = Vec::new();
        far.shutdown().await.unwrap();
        far.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    };
    tokio::join!(accepted.close(), sending);
}

#[tokio::test]
async fn a_long_pipeline_is_not_taken_in_faster_than_it_is_answered() {
    let (mut accepted, mut far) = pair();
    let sending = tokio::spawn(async move {
        let requests = b"GET /a HTTP/1.1\r\n\r\n".repeat(200_000);
        let _ = far.write_all(&requests).await;
    });
    for _ in 0..100 {
        let request = next(&mut accepted).await.unwrap().unwrap();
        for _ in 0..4 {
            assert!(poll_fn(|cx| Poll::Ready(accepted.poll_gone(cx).is_pending())).await);
            tokio::task::yield_now().await;
        }
        accepted.give_back(request);
        let held_bytes = accepted.incoming.unread().len();
        assert!(held_bytes <= MAX_AHEAD_BYTES + super::super::incoming::MAX_READ_BYTES, "{held_bytes}");
    }
    sending.abort();
}

#[tokio::test]
async fn the_framing_of_small_chunks_is_not_kept() {
    let (mut accepted, mut far) = pair();
    let sending = async {
        far.write_all(b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for _ in 0..100 {
            far.write_all(&b"000000000000001\r\nx\r\n".repeat(1000)).await.unwrap();
        }
        far.write_all(b"0\r\n\r\nGET /b HTTP/1.1\r\n\r\n").await.unwrap();
    };
    let (request, ()) = tokio::join!(next(&mut accepted), sending);
    let request = request.unwrap().unwrap();
    assert_eq!((request.body().len(), request.target()), (100_000, &b"/a"[..]));
    let held_bytes = request.bytes.all().len();
    assert!(held_bytes < 128 * 1024, "{held_bytes}");
    accepted.give_back(request);
    assert_eq!(next(&mut accepted).await.unwrap().unwrap().target(), b"/b");
}

#[tokio::test]
async fn long_bodies_both_ways_through_tls_and_little_room_wake_both_sides() {
    let (near, far) = crate::net::tls::tests::secured_pipe(700).await;
    let mut accepted = Accepted::new(near, 1024);
    let (mut from, mut to) = tokio::io::split(far);
    let body = vec![b'b'; 300_000];
    let sending = async {
        for _ in 0..3 {
            to.write_all(b"POST /a HTTP/1.1\r\ncontent-length: 300000\r\n\r\n").await.unwrap();
            to.write_all(&body).await.unwrap();
        }
        to.flush().await.unwrap();
    };
    let receiving = async {
        let mut got = vec![0; 3 * body.len()];
        from.read_exact(&mut got).await.unwrap();
        got
    };
    let serving = async {
        for _ in 0..3 {
            let request = next(&mut accepted).await.unwrap().unwrap();
            let gone = poll_fn(|cx| Poll::Ready(accepted.poll_gone(cx).is_ready())).await;
            assert!(!gone && request.body().len() == body.len());
            let mut echo = Outgoing::new([&request.body()[..7], &request.body()[7..]]);
            poll_fn(|cx| accepted.poll_write(&mut echo, cx)).await.unwrap();
            accepted.give_back(request);
        }
    };
    let all = async { tokio::join!(sending, receiving, serving).1 };
    let got =
        tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("nobody waits for ever");
    assert!(got.iter().all(|b| *b == b'b'));
}

/// Pieces of requests, whole and broken, and noise.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let words: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\n",
        b"content-length: 5\r\n",
        b"content-length: 18446744073709551615\r\n",
        b"content-length: 9223372036854775807\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"\r\n",
        b"\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"fffffffffffffff\r\n",
        b"HTTP/1.0",
        b": ",
        b"\0",
    ];
    let piece = prop_oneof![
        6 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..30)
}

/// What a server makes of these bytes, as they come in parts of `part` bytes.
async fn read_all(bytes: Vec<u8>, part: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut accepted, mut far) = pair();
    let sending = async move {
        for part in bytes.chunks(part) {
            if far.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let reading = async move {
        let mut seen = Vec::new();
        while let Ok(Some(request)) = next(&mut accepted).await {
            let _ = poll_fn(|cx| Poll::Ready(accepted.poll_gone(cx))).await;
            assert!(request.is_whole() && request.fields().all(|(name, _)| !name.is_empty()));
            seen.push((request.target().to_vec(), request.body().to_vec()));
            let goes_on = request.head.message.keeps_alive;
            accepted.give_back(request);
            if !goes_on {
                break;
            }
        }
        seen
    };
    tokio::join!(sending, reading).1
}

proptest! {
    #[test]
    fn any_bytes_are_the_same_requests_however_they_are_cut(pieces in pieces(), part in 1usize..60) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = pieces.concat();
        let (cut, whole) = runtime.block_on(async {
            (read_all(bytes.clone(), part).await, read_all(bytes, usize::MAX).await)
        });
        prop_assert_eq!(cut, whole);
    }
}
