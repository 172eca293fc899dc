//! `%xx` in paths and queries (RFC 3986 §2.1).
//!
//! Rule: two hexadecimal digits or it is none; `%+5` is none. Deliberately not here: `+` for a space, which forms have and paths
//! have not.

/// The byte that a code at the beginning of `text` stands for.
pub fn code(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match *text {
        [b'%', high, low, ..] => Some((digit(high)? * 16 + digit(low)?) as u8),
        _ => None,
    }
}

/// Without codes; `None` where a `%` begins none, and of what is then no text.
pub fn decoded(text: &str) -> Option<String> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let is_code = byte == b'%';
        bytes.push(if is_code { code(rest)? } else { byte });
        rest = if is_code { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_and_what_only_looks_like_one_is_none() {
        assert_eq!(decoded("a%2Fb%3a+c%C3%A9").as_deref(), Some("a/b:+cé"));
        for bad in ["%", "%4", "%+5", "%-1", "%zz", "%4g", "%ff", "a%2"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
