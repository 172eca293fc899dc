//! Answers as a server may send them, whole and broken, cut at every place.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

/// Status and data of an answer to one request, or what was wrong; the bytes come in parts of `part`.
async fn read_all(bytes: &[u8], part: usize) -> Result<(u16, Bytes), String> {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let mut connection = Connection::new(Io::Pipe(near), Link::default(), Clock::virtual_time(1_000, 0));
    let answering = async move {
        for part in bytes.chunks(part) {
            if far.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let reading = async move {
        let request = Outgoing::new([&b"GET / HTTP/1.1\r\n\r\n"[..]]);
        let head = connection.send(request, false).await.map_err(|failed| failed.error.to_string())?;
        assert!(connection.fields().all(|(name, _)| !name.is_empty()) && head.status >= 200);
        Ok((head.status, connection.collect(1 << 20).await?))
    };
    tokio::join!(reading, answering).0
}

#[tokio::test]
async fn interim_answers_are_stepped_over_and_have_a_limit() {
    for (interim, whole) in [(MAX_INTERIM as usize, true), (MAX_INTERIM as usize + 1, false)] {
        let mut bytes = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n".repeat(interim);
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        for part in [7, usize::MAX] {
            let read = read_all(&bytes, part).await;
            assert_eq!(read.is_ok(), whole, "{interim}: {read:?}");
            assert!(whole || read.unwrap_err().contains("interim"));
        }
    }
}

/// Pieces of answers, and noise.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n",
        b"HTTP/1.0 500 \xff\r\n",
        b"content-length: 5\r\n",
        b"content-length: 9223372036854775807\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"\r\n",
        b"\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"fffffffffffffff\r\n",
    ];
    let piece = prop_oneof![
        6 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let start = prop_oneof![Just(&b"HTTP/1.1 200 OK\r\n"[..]), Just(&b""[..])];
    (start, prop::collection::vec(piece, 0..20)).prop_map(|(start, rest)| [start, &rest.concat()].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_the_same_answer_however_they_are_cut(bytes in pieces(), part in 1usize..60) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (cut, whole) = runtime.block_on(async {
            (read_all(&bytes, part).await, read_all(&bytes, usize::MAX).await)
        });
        prop_assert_eq!(cut.ok(), whole.ok());
    }
}
