//! A serialiser of records into compact JSON, the bytes of `serde_json::to_vec` for less than half of its instructions.
//!
//! Why not `serde_json` itself: it looks at each key and each string byte by byte for characters to escape, and that was a
//! seventh of all instructions of a small request (15,000 of 105,000, callgrind). Here keys are known to be plain, and a
//! string is looked at eight bytes at a time. A test holds the two equal. Deliberately not here: what no record has
//! (chars, bytes, maps with other keys than strings), which is an error, not a panic; reading.

#![expect(clippy::inline_always, reason = "only inlined is a key a constant")]

use std::fmt;

use serde::ser::{self, Impossible, Serialize};

use crate::buffer::Buffer;
use crate::wire::scan::is_plain;

/// Appends `value` as one line of JSON, without the line end.
pub fn push_json<T: Serialize>(out: &mut Buffer, value: &T) -> Result<(), Unsupported> {
    value.serialize(&mut Json { out })
}

/// A value of a kind that records do not have.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsupported(String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a trace record cannot hold {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

impl ser::Error for Unsupported {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

fn unsupported<T>(what: &str) -> Result<T, Unsupported> {
    Err(Unsupported(what.to_owned()))
}

struct Json<'a> {
    out: &'a mut Buffer,
}

impl Json<'_> {
    fn string(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            self.out.push_quoted(text.as_bytes());
        } else {
            // Writing a string into memory cannot fail.
            let _ = serde_json::to_writer(&mut *self.out, text);
        }
    }
}

/// An object or an array that has been opened. Each member is written with a comma before it, and at the end the first comma
/// becomes the bracket that opens.
struct Open<'a, 'b> {
    json: &'a mut Json<'b>,
    start: usize,
    brackets: [u8; 2],
}

impl<'a, 'b> Open<'a, 'b> {
    #[inline(always)]
    fn new(json: &'a mut Json<'b>, brackets: [u8; 2]) -> Self {
        Self { start: json.out.len(), json, brackets }
    }

    // Inlined with its key, which is a constant then.
    #[inline(always)]
    fn member<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Unsupported> {
        self.json.out.push_key(key);
        value.serialize(&mut *self.json)
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.json.out.push(b",");
        value.serialize(&mut *self.json)
    }

    fn close(self) {
        if self.json.out.len() == self.start {
            self.json.out.push(&self.brackets);
        } else {
            self.json.out.replace(self.start, self.brackets[0]);
            self.json.out.push(&self.brackets[1..]);
        }
    }
}

impl<'a, 'b> ser::Serializer for &'a mut Json<'b> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Open<'a, 'b>;
    type SerializeTuple = Impossible<(), Unsupported>;
    type SerializeTupleStruct = Impossible<(), Unsupported>;
    type SerializeTupleVariant = Impossible<(), Unsupported>;
    type SerializeMap = Open<'a, 'b>;
    type SerializeStruct = Open<'a, 'b>;
    type SerializeStructVariant = Impossible<(), Unsupported>;

    fn serialize_bool(self, v: bool) -> Result<(), Unsupported> {
        self.out.push(if v { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_i8(self, v: i8) -> Result<(), Unsupported> {
        self.serialize_i64(i64::from(v))
    }

    fn serialize_i16(self, v: i16) -> Result<(), Unsupported> {
        self.serialize_i64(i64::from(v))
    }

    fn serialize_i32(self, v: i32) -> Result<(), Unsupported> {
        self.serialize_i64(i64::from(v))
    }

    fn serialize_i64(self, v: i64) -> Result<(), Unsupported> {
        if v < 0 {
            self.out.push(b"-");
        }
        self.out.push_u64(v.unsigned_abs());
        Ok(())
    }

    fn serialize_u8(self, v: u8) -> Result<(), Unsupported> {
        self.serialize_u64(u64::from(v))
    }

    fn serialize_u16(self, v: u16) -> Result<(), Unsupported> {
        self.serialize_u64(u64::from(v))
    }

    fn serialize_u32(self, v: u32) -> Result<(), Unsupported> {
        self.serialize_u64(u64::from(v))
    }

    fn serialize_u64(self, v: u64) -> Result<(), Unsupported> {
        self.out.push_u64(v);
        Ok(())
    }

    fn serialize_f32(self, v: f32) -> Result<(), Unsupported> {
        // Not as an f64, which would have ten digits more.
        serde_json::to_writer(&mut *self.out, &v).map_err(ser::Error::custom)
    }

    fn serialize_f64(self, v: f64) -> Result<(), Unsupported> {
        // Shortest digits that read back to the same number; NaN and infinities become null.
        serde_json::to_writer(&mut *self.out, &v).map_err(ser::Error::custom)
    }

    fn serialize_char(self, _v: char) -> Result<(), Unsupported> {
        unsupported("a char")
    }

    fn serialize_str(self, v: &str) -> Result<(), Unsupported> {
        self.string(v);
        Ok(())
    }

    fn serialize_bytes(self, _v: &[u8]) -> Result<(), Unsupported> {
        unsupported("bytes")
    }

    fn serialize_none(self) -> Result<(), Unsupported> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unsupported> {
        self.out.push(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Unsupported> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unsupported> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        let mut open = Open::new(self, *b"{}");
        open.member(variant, value)?;
        open.close();
        Ok(())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Open<'a, 'b>, Unsupported> {
        Ok(Open::new(self, *b"[]"))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Unsupported> {
        unsupported("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, Unsupported> {
        unsupported(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleVariant, Unsupported> {
        unsupported(name)
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Open<'a, 'b>, Unsupported> {
        Ok(Open::new(self, *b"{}"))
    }

    fn serialize_struct(self, _: &'static str, _len: usize) -> Result<Open<'a, 'b>, Unsupported> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, Unsupported> {
        unsupported(name)
    }
}

impl ser::SerializeSeq for Open<'_, '_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.element(value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeMap for Open<'_, '_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unsupported> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        self.json.out.push(b":");
        value.serialize(&mut *self.json)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStruct for Open<'_, '_> {
    type Ok = ();
    type Error = Unsupported;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        self.member(key, value)
    }

    fn end(self) -> Result<(), Unsupported> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::{CandidateRecord, DecisionRecord, Outcome, Record, RequestRecord};
    use proptest::prelude::*;

    fn both(record: &Record) -> (String, String) {
        let mut ours = Buffer::default();
        push_json(&mut ours, record).unwrap();
        (String::from_utf8(ours.as_bytes().to_vec()).unwrap(), serde_json::to_string(record).unwrap())
    }

    #[test]
    fn every_kind_of_record_is_written_as_serde_json_writes_it() {
        for record in crate::trace::schema::filled_records() {
            let (ours, theirs) = both(&record);
            assert_eq!(ours, theirs);
        }
    }

    proptest! {
        #[test]
        fn strings_and_numbers_of_all_kinds_are_written_as_serde_json_writes_them(
            id in ".{0,40}", path in "[ -~\"\\\\\u{0}-\u{20}\u{e9}]{0,40}", n in any::<u64>(), f in any::<f64>(),
        ) {
            let candidate = CandidateRecord { score: Some(f), worker: id.as_str().into(), ..CandidateRecord::default() };
            let record = RequestRecord {
                seq: n, request_id: id, path: path.into(), end_ns: n, outcome: Outcome::TimedOut,
                decision: Some(DecisionRecord { candidates: vec![candidate], ..DecisionRecord::default() }),
                ..RequestRecord::default()
            };
            let (ours, theirs) = both(&Record::Request(Box::new(record)));
            prop_assert_eq!(ours, theirs);
        }
    }
}
