//! Values as few bytes, and back.
//!
//! Rule: what comes back is equal to what went in, bit for bit; bytes that are no value are told, and never a panic. Packed
//! values are read by the process that packed them, so the form has no version. Deliberately not here: which fields a value has
//! (`shapes`), and where the bytes lie.

use std::borrow::Cow;

/// Bytes of one value after the other, with the fixed words that stand in them.
#[derive(Debug, Default)]
pub struct Packer {
    /// What was packed.
    pub bytes: Vec<u8>,
    /// Words of the program: names of reasons and sources, some dozen. A value has their number.
    words: Vec<&'static str>,
}

impl Packer {
    /// Every word that was packed, by number.
    pub fn words(self) -> Vec<&'static str> {
        self.words
    }
}

/// Bytes that are read as values.
#[derive(Debug)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    words: &'a [&'static str],
}

impl<'a> Unpacker<'a> {
    /// Of a packer whose words these are.
    pub fn new(bytes: &'a [u8], words: &'a [&'static str]) -> Self {
        Self { bytes, words }
    }

    /// One value; `None` where the bytes are none.
    pub fn value<T: Pack>(&mut self) -> Option<T> {
        T::unpack(self)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }
}

/// What can be packed.
pub trait Pack: Sized {
    /// Appends it.
    fn pack(&self, to: &mut Packer);
    /// Reads it back.
    fn unpack(from: &mut Unpacker<'_>) -> Option<Self>;
}

/// Seven bits a byte, the lowest first: most numbers are times of a run, and few are as long as their type.
impl Pack for u64 {
    fn pack(&self, to: &mut Packer) {
        let mut left = *self;
        while left >= 0x80 {
            to.bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        to.bytes.push(left as u8);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = from.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// Small ones of both signs are short.
impl Pack for i64 {
    fn pack(&self, to: &mut Packer) {
        (self.wrapping_shl(1) ^ (self >> 63)).cast_unsigned().pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let folded = u64::unpack(from)?;
        Some((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
    }
}

macro_rules! as_u64 {
    ($($number:ty),*) => {$(
        impl Pack for $number {
            fn pack(&self, to: &mut Packer) {
                (*self as u64).pack(to);
            }

            fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
                Self::try_from(u64::unpack(from)?).ok()
            }
        }
    )*};
}
as_u64!(u16, u32, usize);

impl Pack for bool {
    fn pack(&self, to: &mut Packer) {
        to.bytes.push(u8::from(*self));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        match from.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Pack for f64 {
    fn pack(&self, to: &mut Packer) {
        to.bytes.extend(self.to_le_bytes());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(Self::from_le_bytes(from.take(8)?.try_into().ok()?))
    }
}

impl Pack for String {
    fn pack(&self, to: &mut Packer) {
        self.len().pack(to);
        to.bytes.extend(self.as_bytes());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let long = usize::unpack(from)?;
        Some(std::str::from_utf8(from.take(long)?).ok()?.to_owned())
    }
}

/// A word of the program.
impl Pack for &'static str {
    fn pack(&self, to: &mut Packer) {
        let known = to.words.iter().position(|word| word == self);
        let number = known.unwrap_or_else(|| {
            to.words.push(self);
            to.words.len() - 1
        });
        number.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let number = usize::unpack(from)?;
        from.words.get(number).copied()
    }
}

impl Pack for Cow<'static, str> {
    fn pack(&self, to: &mut Packer) {
        self.len().pack(to);
        to.bytes.extend(self.as_bytes());
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        String::unpack(from).map(Self::Owned)
    }
}

impl<T: Pack> Pack for Option<T> {
    fn pack(&self, to: &mut Packer) {
        self.is_some().pack(to);
        if let Some(value) = self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        if bool::unpack(from)? { T::unpack(from).map(Some) } else { Some(None) }
    }
}

impl<T: Pack> Pack for Vec<T> {
    fn pack(&self, to: &mut Packer) {
        self.len().pack(to);
        for value in self {
            value.pack(to);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = usize::unpack(from)?;
        // A count that is none does not ask for memory: each value has at least a byte.
        let mut values = Self::with_capacity(count.min(from.bytes.len()));
        for _ in 0..count {
            values.push(T::unpack(from)?);
        }
        Some(values)
    }
}

impl<A: Pack, B: Pack> Pack for (A, B) {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
        self.1.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some((A::unpack(from)?, B::unpack(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back<T: Pack>(value: &T) -> Option<T> {
        let mut packer = Packer::default();
        value.pack(&mut packer);
        let bytes = std::mem::take(&mut packer.bytes);
        let words = packer.words();
        let mut from = Unpacker::new(&bytes, &words);
        let value = from.value();
        assert_eq!(from.bytes, [0; 0], "all is read");
        value
    }

    #[test]
    fn values_come_back() {
        for number in [0, 1, 0x7F, 0x80, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(back(&number), Some(number));
        }
        for number in [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX] {
            assert_eq!(back(&number), Some(number));
        }
        let texts = (Some("ü \n".to_owned()), vec![("reason", "column"), ("other", "column")]);
        assert_eq!(back(&texts), Some(texts.clone()));
        assert_eq!(back(&f64::NAN).map(f64::to_bits), Some(f64::NAN.to_bits()));
        assert_eq!(back(&(None::<u16>, true)), Some((None, true)));
    }

    #[test]
    fn bytes_that_are_no_value_are_told() {
        let read = |bytes: &[u8]| Unpacker::new(bytes, &[]).value::<Vec<String>>();
        assert_eq!(read(&[0xFF; 11]), None);
        assert_eq!(read(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1, b'a']), None);
        assert_eq!(read(&[1, 1, 0xFF]), None, "no UTF-8");
        assert_eq!(Unpacker::new(&[3], &[]).value::<&'static str>(), None);
        assert_eq!(Unpacker::new(&[0xFF, 0xFF, 0x07], &[]).value::<u16>(), None);
    }
}
