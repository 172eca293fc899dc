//! One histogram as the text that stands in a log, and back.
//!
//! Rule: written as V2, deflated, in base64, as `HdrHistogram` 2.1 and later do; a text that is broken, or says that it is larger than
//! any histogram can be, is an error in words. Deliberately not here: the lines of a log.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use super::Counts;

/// Bytes before the counts: cookie, length, offset, digits, lowest, highest, ratio.
const HEAD_BYTES: usize = 40;
/// A histogram of five digits over all 64 bits has six million counts of at most nine bytes.
const MOST_BYTES: u64 = 64 << 20;
/// The low bits of a cookie that tell its word size.
const WORD_SIZE: u32 = 0xf0;
const V2: u32 = 0x1c84_9303;
const V2_DEFLATED: u32 = 0x1c84_9304;
/// V0 and V1, plain and deflated.
const OLDER: [u32; 4] = [0x1c84_9301, 0x1c84_9302, 0x1c84_9308, 0x1c84_9309];

/// As text.
///
/// # Errors
/// It cannot be encoded, in words.
pub fn encoded(counts: &Counts) -> Result<String, String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(counts, &mut bytes)
        .map_err(|e| format!("a histogram cannot be encoded: {e}"))?;
    Ok(STANDARD.encode(bytes))
}

/// Of text.
///
/// # Errors
/// It is no histogram that can be read, in words.
pub fn decoded(text: &str) -> Result<Counts, String> {
    let bytes = STANDARD.decode(text).map_err(|e| format!("the histogram is not base64: {e}"))?;
    let plain = match word(&bytes, 0).map(|cookie| cookie & !WORD_SIZE) {
        Some(V2) => bytes,
        Some(V2_DEFLATED) => inflated(&bytes)?,
        Some(older) if OLDER.contains(&older) => {
            return Err(
                "the histogram is in an older encoding (V0 or V1); HdrHistogram 2.1 and later write V2"
                    .to_owned(),
            );
        }
        _ => return Err("the text is base64, but no HDR histogram".to_owned()),
    };
    check(&plain)?;
    Deserializer::new()
        .deserialize(&mut plain.as_slice())
        .map_err(|e| format!("the histogram is broken: {e}"))
}

/// The plain histogram inside a deflated one.
fn inflated(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let long = word(bytes, 4).map(|long| long as usize);
    let inside = long.and_then(|long| bytes.get(8..8 + long)).ok_or("the histogram is cut off")?;
    let mut plain = Vec::new();
    ZlibDecoder::new(inside)
        .take(MOST_BYTES + 1)
        .read_to_end(&mut plain)
        .map_err(|e| format!("the histogram cannot be inflated: {e}"))?;
    if plain.len() as u64 > MOST_BYTES {
        return Err(format!("the histogram is longer than {MOST_BYTES} bytes"));
    }
    Ok(plain)
}

/// What the decoder takes on trust: that the counts are as long as they say, and none the smallest number of all.
fn check(plain: &[u8]) -> Result<(), String> {
    let counts = plain.get(HEAD_BYTES..).ok_or("the histogram is cut off")?;
    if word(plain, 4).map(|long| long as usize) != Some(counts.len()) {
        return Err("the histogram is cut off".to_owned());
    }
    if counts.windows(9).any(|nine| nine == [0xff; 9]) {
        return Err("the histogram is broken: a count that no number can hold".to_owned());
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::hdr::{DIGITS, HIGHEST_NS};
    use proptest::prelude::*;

    fn counts(values: &[(u64, u64)]) -> Counts {
        let mut counts = Counts::new_with_bounds(1, HIGHEST_NS, DIGITS).unwrap();
        for (value, times) in values {
            counts.saturating_record_n(*value, *times);
        }
        counts
    }

    proptest! {
        #[test]
        fn a_histogram_comes_back_as_it_was(values in proptest::collection::vec((0..HIGHEST_NS, 1_u64..9), 0..60)) {
            let counts = counts(&values);
            prop_assert_eq!(decoded(&encoded(&counts).unwrap()).unwrap(), counts);
        }

        /// Whatever a disk makes of it.
        #[test]
        fn broken_bytes_are_an_error_and_no_panic(at in 0_usize..200, by in 1_u8..=255, long in 0_usize..200) {
            let text = encoded(&counts(&[(1_000_000, 3), (70_000_000, 1)])).unwrap();
            let mut bytes = STANDARD.decode(&text).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= by;
            let _ = decoded(&STANDARD.encode(&bytes));
            prop_assert!(decoded(&STANDARD.encode(&bytes[..long.min(bytes.len() - 1)])).is_err());
            let mut plain = inflated(&STANDARD.decode(&text).unwrap()).unwrap();
            let at = at % plain.len();
            plain[at] ^= by;
            let _ = decoded(&STANDARD.encode(&plain));
        }
    }

    #[test]
    fn what_is_none_is_told_in_words() {
        for (text, words) in [
            ("?", "not base64"),
            ("", "no HDR histogram"),
            ("AAAAAAAAAAA=", "no HDR histogram"),
            ("HISTEwAAAAAAAAAD", "cut off"),
            ("HISTCAAAAAAAAAAD", "older encoding"),
        ] {
            let told = decoded(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
        let mut plain = inflated(&STANDARD.decode(encoded(&counts(&[(5, 1)])).unwrap()).unwrap()).unwrap();
        plain.truncate(HEAD_BYTES);
        plain.extend([0xff; 9]);
        plain[7] = 9;
        assert!(decoded(&STANDARD.encode(&plain)).unwrap_err().contains("no number can hold"));
    }
}
