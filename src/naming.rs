//! Names that stand beside each other.
//!
//! Rule: what is shown or kept by name has a name of its own, and the first that asks for a name gets it as it is. Deliberately
//! not here: what the names are of, and which characters a file name may have.

/// `name`, or the first of `numbered(name, 2)`, `numbered(name, 3)` and so on that is not taken.
pub fn unlike(name: &str, numbered: impl Fn(&str, u64) -> String, is_taken: impl Fn(&str) -> bool) -> String {
    let others = (2..).map(|number| numbered(name, number));
    let mut all = std::iter::once(name.to_owned()).chain(others);
    all.find(|name| !is_taken(name)).unwrap_or_default()
}

/// As a reader is shown it: `name (2)`.
pub fn counted(name: &str, number: u64) -> String {
    format!("{name} ({number})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_first_number_that_is_free() {
        let taken = ["a", "a (2)", "b"];
        let given = |name| unlike(name, counted, |name| taken.contains(&name));
        assert_eq!(["c", "b", "a"].map(given), ["c", "b (2)", "a (3)"]);
    }
}
