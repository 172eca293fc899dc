//! Bodies cut at every place: the same data, the same end.

use proptest::prelude::*;

use super::*;

/// Feeds `bytes` in pieces of at most `piece`: data, bytes passed on, bytes used, whether it ended.
fn feed(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, usize, bool), BadChunk> {
    let mut body = Body::new(framing);
    let (mut data, mut passed, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in bytes.chunks(piece.max(1)) {
        let taken = body.take(piece, |d| data.extend_from_slice(d))?;
        passed.extend_from_slice(&piece[..taken.pass_bytes]);
        used += taken.used_bytes;
        if taken.used_bytes < piece.len() {
            body.take(&piece[taken.used_bytes..], |_| {})?;
            break;
        }
    }
    Ok((data, passed, used, body.has_ended()))
}

#[test]
fn a_body_ends_where_its_head_says() {
    let (data, passed, used, ended) = feed(Framing::Length(3), b"abcdef", 2).unwrap();
    assert_eq!((data.as_slice(), passed.as_slice(), used, ended), (&b"abc"[..], &b"abc"[..], 3, true));
    assert!(!feed(Framing::Length(9), b"abc", 9).unwrap().3);
    let mut until_close = Body::new(Framing::UntilClose);
    assert_eq!(until_close.take(b"abc", |_| {}).unwrap().used_bytes, 3);
    assert!(!until_close.has_ended() && until_close.close() && until_close.has_ended());
    assert!(!Body::new(Framing::Length(1)).close(), "a length that was not reached is no end");
    assert!(!Body::new(Framing::Chunked).close());
}

#[test]
fn trailers_are_read_and_not_passed_on() {
    let bytes = b"2;x=1\r\nok\r\n0\r\nx-sum: 1\r\ny: 2\r\n\r\nGET";
    for piece in 1..bytes.len() {
        let (data, passed, used, ended) = feed(Framing::Chunked, bytes, piece).unwrap();
        assert_eq!(
            (data.as_slice(), passed.as_slice()),
            (&b"ok"[..], &b"2;x=1\r\nok\r\n0\r\n"[..]),
            "{piece}"
        );
        assert_eq!((used, ended), (bytes.len() - 3, true), "{piece}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let bad: [&[u8]; 23] = [
        b"zz\r\n",
        b"\r\n",
        b";x\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n",
        b"1\r\r\n",
        b"1;x\ny\r\na\r\n",
        b"1234567890abcdef\r\n",
        b"0\r\n\n",
        b"0\r\nx: 1\n\r\n",
        b"0\r\nx: 1\ry: 2\r\n\r\n",
        b"1 2\r\na\r\n",
        b"1\t\0;x\r\na\r\n",
        b"1;x\0\r\na\r\n",
        b"1;\x0b\r\na\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
        b"0\r\n: x\r\n\r\n",
        b"0\r\nx : y\r\n\r\n",
        b"0\r\nx: y\r\n z\r\n\r\n",
        b"0\r\nx: \0\r\n\r\n",
    ];
    for bytes in bad {
        for piece in [1, 3, 64] {
            assert!(feed(Framing::Chunked, bytes, piece).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
    let mut endless = b"1;".to_vec();
    endless.resize(40_000, b'x');
    assert!(feed(Framing::Chunked, &endless, 1000).is_err(), "framing has a limit");
}

proptest! {
    #[test]
    fn any_chunks_cut_anywhere_are_their_data(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..12),
        piece in 1usize..400,
        upper in any::<bool>(),
    ) {
        let mut coded = Vec::new();
        for chunk in &chunks {
            let size = if upper { format!("{:X}\r\n", chunk.len()) } else { format!("{:x}\r\n", chunk.len()) };
            coded.extend_from_slice(size.as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(b"0\r\n\r\nrest");
        let (data, passed, used, ended) = feed(Framing::Chunked, &coded, piece).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(&passed[..], &coded[..coded.len() - 6]);
        prop_assert!(ended && used == coded.len() - 4);
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise_than_in_words(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = feed(Framing::Chunked, &bytes, 7);
    }
}
