//! The parts that a chunked body is told in.

use super::*;

#[test]
fn parts_come_in_order_and_the_line_of_the_last_chunk_stands_alone() {
    let bytes = b"3\r\nabc\r\n0\r\nt: 1\r\n\r\n";
    let mut chunked = Chunked::default();
    let mut at = 0;
    let mut parts = Vec::new();
    while at < bytes.len() {
        let part = chunked.next(&bytes[at..]).unwrap();
        let (Part::Framing(n) | Part::Data(n) | Part::End(n)) = part;
        at += n;
        parts.push(part);
    }
    assert_eq!(parts, [Part::Framing(3), Part::Data(3), Part::Framing(5), Part::End(8)]);
    assert!(chunked.in_trailers());
}
