//! Lines of Prometheus's text format, as servers write it.
//!
//! Rule: a line is a sample or it is not; nothing is repaired and nothing is copied. Deliberately not here: what the samples
//! mean (`loads`), pages of many servers (`admin::engine_metrics`).

/// One line with a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Its name, colons and all.
    pub name: &'a str,
    /// Between the braces, as it was written, without a comma at the end; empty where there are none.
    pub labels: &'a str,
    /// Value and perhaps a time, as they were written.
    pub value: &'a str,
    /// The value.
    pub number: f64,
}

impl<'a> Sample<'a> {
    /// `None` if the line is a comment, empty, or none of the format.
    pub fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' ', '\t'])?;
        let name = &line[..end];
        let rest = &line[end..];
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => {
                let close = closing_brace(rest)?;
                (rest[..close].trim().trim_end_matches(','), rest[close + 1..].trim())
            }
            None => ("", rest.trim()),
        };
        let mut words = value.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let fine = is_name(name) && words.count() <= 1;
        fine.then_some(Self { name, labels, value, number })
    }

    /// The value of a label, escapes as they were written.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (found, after) = rest.trim_start_matches([',', ' ', '\t']).split_once("=\"")?;
            let end = closing_quote(after)?;
            if found == name {
                return Some(&after[..end]);
            }
            rest = &after[end + 1..];
        }
    }
}

/// True for what a family or a sample may be called.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let letter = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b':');
    bytes.next().is_some_and(letter) && bytes.all(|b| letter(b) || b.is_ascii_digit())
}

/// Where the brace stands that is not part of a label's value.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'\\' if quoted => escaped = !was_escaped,
            b'"' if !was_escaped => quoted = !quoted,
            b'}' if !quoted => return true,
            _ => {}
        }
        false
    })
}

/// Where the quote stands that ends a label's value.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let was_escaped = std::mem::take(&mut escaped);
        escaped = byte == b'\\' && !was_escaped;
        byte == b'"' && !was_escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_a_label_found_whatever_the_others_hold() {
        let line = r#"sglang:x{a="}\"{,dp_rank=\"9\"", dp_rank = "1",empty="",} 2.5e1 1700000000000"#;
        let sample = Sample::parse(line).unwrap();
        assert_eq!((sample.name, sample.number, sample.value), ("sglang:x", 25.0, "2.5e1 1700000000000"));
        assert_eq!(sample.label("dp_rank"), None, "white space before the sign is none of the format");
        let line = line.replace(" = ", "=");
        let sample = Sample::parse(&line).unwrap();
        assert_eq!(["dp_rank", "empty", "rank"].map(|name| sample.label(name)), [Some("1"), Some(""), None]);
        assert_eq!(sample.label("a"), Some(r#"}\"{,dp_rank=\"9\""#));
        assert_eq!(Sample::parse("x 1").unwrap().label("a"), None);
        assert!(Sample::parse("x NaN").unwrap().number.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_none() {
        for line in ["", "# TYPE x gauge", "x", "x{a=\"1\" 2", "{} 1", "x one", "x 1 2 3", "9x 1", "<html>"] {
            assert_eq!(Sample::parse(line), None, "{line}");
        }
    }
}
