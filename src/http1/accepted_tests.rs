//! Requests cut at every place, pipelined ones, and clients that leave.

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
