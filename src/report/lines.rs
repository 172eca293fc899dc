//! Lines of text for a console.
//!
//! Rule: at most [`WIDTH`] columns where the values allow it, labels left, numbers right, five digits that say something.
//! Deliberately not here: what is said.

use std::fmt::Write;

/// Columns of a rule and of the widest table.
pub const WIDTH: usize = 98;
/// Columns of a label.
pub const LABEL: usize = 37;

/// Text that grows.
#[derive(Debug, Default)]
pub struct Lines(pub String);

impl Lines {
    /// One line.
    pub fn line(&mut self, text: &str) {
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    /// A label and what there is to say.
    pub fn pair(&mut self, label: &str, value: &str) {
        self.line(&format!("{:<LABEL$}{value}", format!("{label}:")));
    }

    /// A title between marks.
    pub fn rule(&mut self, mark: char, title: &str) {
        let long = title.chars().count();
        let left = WIDTH.saturating_sub(long) / 2;
        let right = WIDTH.saturating_sub(long + left);
        let side = |n| std::iter::repeat_n(mark, n).collect::<String>();
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{}{title}{}", side(left), side(right));
    }

    /// `text` behind `head`, in lines of at most [`WIDTH`] columns that all begin where the first one does.
    pub fn wrapped(&mut self, head: &str, text: &str) {
        let indent = head.chars().count();
        let (mut line, mut used) = (head.to_owned(), indent);
        for word in text.split_whitespace() {
            let long = word.chars().count();
            if used > indent && used + 1 + long > WIDTH {
                self.line(&line);
                (line, used) = (" ".repeat(indent), indent);
            }
            if used > indent {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += long;
        }
        self.line(&line);
    }
}

/// A number in at most seven columns up to a million: two decimals, fewer where it is large.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size < 999.995 => format!("{value:.2}"),
        size if size < 99_999.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_wide_as_their_column() {
        for (value, text) in
            [(0.0, "0.00"), (999.99, "999.99"), (1234.56, "1234.6"), (123_456.7, "123457"), (-1.0, "-1.00")]
        {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn long_text_wraps_behind_its_indent() {
        let mut out = Lines::default();
        out.wrapped("hint: ", &"word ".repeat(30));
        let lines: Vec<&str> = out.0.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].len() <= WIDTH && lines[1].starts_with("      word"), "{lines:?}");
    }
}
