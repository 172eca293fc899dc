//! One expression over named numbers and texts, by the engine of scripts: no statements, no functions of its own.
//!
//! Rule: it is compiled once, and a name that is not known is told then; what it cannot compute of the values given is an error of
//! that one call. It can compute and nothing else, and no call takes more than some thousand operations. Deliberately not here:
//! what the names mean.

use rhai::{AST, Dynamic, Engine, Scope};

use super::engine;
use super::error::{Cause, Failure, ScriptError};

/// Longest text, in bytes.
const MAX_BYTES: usize = 4096;

/// A value that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known<'a> {
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// Yes or no.
    Truth(bool),
    /// It is not known: `()`, as `known(name)` and `or(name, 0.0)` see.
    Nothing,
}

/// A compiled expression.
pub struct Formula {
    engine: Engine,
    ast: AST,
    scope: Scope<'static>,
    /// The names that it uses, each with its place among those it was compiled with.
    used: Vec<(usize, String)>,
}

impl std::fmt::Debug for Formula {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Formula").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Formula {
    /// Compiles an expression over `names`.
    pub fn compile(text: &str, names: &[&str]) -> Result<Self, ScriptError> {
        if text.len() > MAX_BYTES {
            return Err(ScriptError::new(format!("longer than {MAX_BYTES} bytes")));
        }
        let engine = engine::new();
        let written: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let present = names.iter().enumerate().filter(|(_, name)| written.contains(name));
        let used: Vec<(usize, String)> = present.map(|(place, name)| (place, (*name).to_owned())).collect();
        let mut scope = Scope::new();
        for (_, column) in &used {
            scope.push_dynamic(column.as_str(), Dynamic::UNIT);
        }
        let ast =
            engine.compile_expression_with_scope(&scope, text).map_err(|e| ScriptError::expression(&e))?;
        Ok(Self { engine, ast, scope, used })
    }

    /// Its value, where `value` tells what the name at a place stands for.
    ///
    /// # Errors
    /// It cannot be computed, or is no finite number (yes is 1, no is 0); in words.
    pub fn value<'a>(&mut self, value: impl Fn(usize) -> Known<'a>) -> Result<f64, String> {
        self.scope.clear();
        for (place, name) in &self.used {
            let value = match value(*place) {
                Known::Number(number) => Dynamic::from(number),
                Known::Text(text) => Dynamic::from(text.to_owned()),
                Known::Truth(truth) => Dynamic::from(truth),
                Known::Nothing => Dynamic::UNIT,
            };
            self.scope.push_dynamic(name.as_str(), value);
        }
        let run = || self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &self.ast);
        // A defect of Rhai's must not end a report.
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => {
                Err(Failure::new(Cause::Error, "the script engine panicked; please report the expression"))
            }
        };
        let answer = answer.map_err(|failure| failure.what)?;
        let number = answer
            .as_float()
            .or_else(|_| answer.as_int().map(|whole| whole as f64))
            .or_else(|_| answer.as_bool().map(f64::from))
            .map_err(|kind| format!("expected a number, got {kind}"))?;
        if number.is_finite() { Ok(number) } else { Err(format!("it is {number}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Place;

    const NAMES: [&str; 4] = ["ttft", "decode_length", "host", "success"];

    fn row(place: usize) -> Known<'static> {
        [Known::Number(0.25), Known::Nothing, Known::Text("a:1"), Known::Truth(true)][place]
    }

    fn value(text: &str) -> Result<f64, String> {
        Formula::compile(text, &NAMES).unwrap().value(row)
    }

    #[test]
    fn numbers_texts_and_truths_are_computed_with() {
        assert_eq!(value("ttft * 1000.0"), Ok(250.0));
        assert_eq!(value("if host == \"a:1\" && success { 2 } else { 3 }"), Ok(2.0));
        assert_eq!(value("ttft < 0.3"), Ok(1.0));
        assert_eq!(value("or(decode_length, 7.0)"), Ok(7.0));
    }

    #[test]
    fn one_call_may_fail_and_the_next_is_its_own() {
        let mut formula = Formula::compile("ttft / decode_length", &NAMES).unwrap();
        assert!(formula.value(row).is_err());
        let known = |place| if place == 1 { Known::Number(0.5) } else { row(place) };
        assert_eq!(formula.value(known), Ok(0.5));
        assert!(value("host").unwrap_err().contains("expected a number"));
        assert!(value("ttft / 0.0").is_err());
    }

    #[test]
    fn what_is_no_expression_is_told_with_its_place() {
        let error = |text: &str| Formula::compile(text, &NAMES).unwrap_err();
        assert_eq!(error("ttft + nothing").place, Some(Place { line: 1, column: 8 }));
        assert!(error("ttft + nothing").what.contains("nothing"));
        assert!(error("ttft +").place.is_some());
        assert!(error("let x = 1; x").place.is_some());
        assert!(!error("eval(\"1\")").what.is_empty());
        assert!(error(&"1+".repeat(3000)).what.contains("longer"));
    }

    #[test]
    fn it_cannot_run_on() {
        let text = "[1,2,3,4,5,6,7,8].map(|a| 1)";
        assert!(Formula::compile(text, &NAMES).is_err() || value(text).is_err());
    }
}
