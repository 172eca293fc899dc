//! W3C Trace Context: the header `traceparent`, and the ids that it carries.
//!
//! Rule: what the recommendation calls invalid is none (capital letters, ids of zeros, version `ff`, a version `00` that is longer
//! than it may be); of a later version the part that is known is read. What is written is version `00` with the one flag that has
//! a meaning there. Deliberately not here: who makes an id (`proxy::span`), `tracestate`, which passes as it came.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The header.
pub const TRACEPARENT: &str = "traceparent";
/// What vendors add to it; without the other it means nothing.
pub const TRACESTATE: &str = "tracestate";

/// Bytes of a version `00`.
const LEN: usize = 55;
/// Whoever called records this trace.
const SAMPLED: u8 = 1;

/// Id of a trace: all spans of one request through all services have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// Id of a span: one service's part of a trace, or a part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span that what follows belongs to.
    pub span_id: SpanId,
    /// It is recorded.
    pub sampled: bool,
}

impl TraceId {
    /// Of bits that were drawn; nought, which is no id, becomes 1.
    pub fn of(bits: u128) -> Self {
        Self(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    fn read(hex: &[u8]) -> Option<Self> {
        let bits = (hex.len() == 32).then(|| bits(hex)).flatten()?;
        NonZeroU128::new(bits).map(Self)
    }

    fn hex(self) -> [u8; 32] {
        let mut out = [0; 32];
        write_hex(&mut out, self.0.get());
        out
    }
}

impl SpanId {
    /// Of bits that were drawn; nought, which is no id, becomes 1.
    pub fn of(bits: u64) -> Self {
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// Its bits.
    pub fn bits(self) -> u64 {
        self.0.get()
    }

    fn read(hex: &[u8]) -> Option<Self> {
        let bits = (hex.len() == 16).then(|| bits(hex)).flatten()?;
        NonZeroU64::new(u64::try_from(bits).ok()?).map(Self)
    }

    fn hex(self) -> [u8; 16] {
        let mut out = [0; 16];
        write_hex(&mut out, self.0.get().into());
        out
    }
}

impl Traceparent {
    /// Reads a header's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LEN)?;
        let version = bits(&known[..2])?;
        let is_longer = !rest.is_empty();
        if version == 0xff || (is_longer && (version == 0 || rest[0] != b'-')) {
            return None;
        }
        if [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return None;
        }
        let flags = u8::try_from(bits(&known[53..])?).ok()?;
        Some(Self {
            trace_id: TraceId::read(&known[3..35])?,
            span_id: SpanId::read(&known[36..52])?,
            sampled: flags & SAMPLED != 0,
        })
    }

    /// The header's value.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        out[3..35].copy_from_slice(&self.trace_id.hex());
        out[36..52].copy_from_slice(&self.span_id.hex());
        out[LEN - 1] = if self.sampled { b'1' } else { b'0' };
        out
    }
}

/// The number that these small hexadecimal digits are.
fn bits(hex: &[u8]) -> Option<u128> {
    hex.iter().try_fold(0, |bits, digit| {
        let value = match *digit {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((bits << 4) | u128::from(value))
    })
}

fn write_hex(out: &mut [u8], bits: u128) {
    let mut left = bits;
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(left & 0xf) as usize];
        left >>= 4;
    }
}

/// Digits are ASCII.
fn text(hex: &[u8]) -> &str {
    std::str::from_utf8(hex).unwrap_or_default()
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.hex()))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.hex()))
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.hex()))
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.hex()))
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = Cow::<str>::deserialize(deserializer)?;
        Self::read(hex.as_bytes()).ok_or_else(|| D::Error::custom("a trace id is 32 hexadecimal digits"))
    }
}

impl<'de> Deserialize<'de> for SpanId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = Cow::<str>::deserialize(deserializer)?;
        Self::read(hex.as_bytes()).ok_or_else(|| D::Error::custom("a span id is 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written() {
        let read = Traceparent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(read.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((read.span_id.to_string().as_str(), read.sampled), ("00f067aa0ba902b7", true));
        assert_eq!(text(&read.to_bytes()), GOOD);
        let later = format!("cc{}", &GOOD[2..]);
        for more in [later.clone(), format!("{later}-what-the-future-says")] {
            assert_eq!(Traceparent::parse(more.as_bytes()), Some(read), "{more}");
        }
        let others = GOOD.replace("-01", "-fe");
        assert!(!Traceparent::parse(others.as_bytes()).unwrap().sampled);
    }

    #[test]
    fn what_the_recommendation_calls_invalid_is_none() {
        let zeros =
            |from: usize, to: usize| format!("{}{:0>w$}{}", &GOOD[..from], "", &GOOD[to..], w = to - from);
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-"),
            format!("{GOOD}0"),
            format!("ff{}", &GOOD[2..]),
            format!("cc{}x", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace("-00f0", "_00f0"),
            GOOD.replace("4bf9", "4bg9"),
            zeros(3, 35),
            zeros(36, 52),
            GOOD.replace("-01", "-0x"),
            format!("é{}", &GOOD[2..]),
        ] {
            assert_eq!(Traceparent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let made = Traceparent {
                trace_id: TraceId::of(trace), span_id: SpanId::of(span), sampled,
            };
            prop_assert_eq!(Traceparent::parse(&made.to_bytes()), Some(made));
            let json = serde_json::to_string(&(made.trace_id, made.span_id)).unwrap();
            prop_assert_eq!(json, format!("[\"{trace:032x}\",\"{span:016x}\"]"));
        }

        #[test]
        fn no_header_breaks_it(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Traceparent::parse(&value);
        }
    }
}
