//! From a text to what is run for each decision.
//!
//! Rule: what can be known to be wrong with a script is an error here, with its place. The body of `score` or `choose` is
//! compiled once more by itself, its parameters being variables that are there already: calling a Rhai function from outside
//! costs more than most bodies do (64 workers: 44 µs, so 25). Deliberately not here: reading files, running.

use std::collections::BTreeSet;

use rhai::{AST, ASTNode, Array, Engine, Expr, Map, Position, Scope};

use super::engine::{self, MAX_SCRIPT_BYTES};
use super::error::ScriptError;
use super::names::{self, OfRequest, OfWorker};
use crate::policy::Needs;

/// What a script is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// `fn score(request, worker)`, for each worker.
    Score,
    /// `fn choose(request, workers)`, once.
    Choose,
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Choose => "choose",
        }
    }
}

/// A script that can be run.
pub struct CompiledScript {
    pub(super) engine: Engine,
    /// The statements of the entry's body, and all functions.
    pub(super) ast: AST,
    pub(super) entry: Entry,
    /// Names of the entry's parameters, in order.
    pub(super) parameters: [String; 2],
    pub(super) of_request: Vec<&'static OfRequest>,
    pub(super) of_worker: Vec<&'static OfWorker>,
    pub(super) needs: Needs,
    pub(super) warnings: Vec<String>,
}

impl CompiledScript {
    /// What went wrong when it was tried on made-up workers, those with values and those of which nothing is known; empty if all
    /// went well. Whoever loads the script should say so: such requests will be routed by the fallback.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What it reads that costs something to find out.
    pub fn needs(&self) -> Needs {
        self.needs
    }
}

/// Parses the text and splits it up; nothing is run.
pub(super) fn compile(text: &str) -> Result<CompiledScript, ScriptError> {
    if text.len() > MAX_SCRIPT_BYTES {
        let why = format!("the script is {} bytes long, at most {MAX_SCRIPT_BYTES} are read", text.len());
        return Err(ScriptError::new(why));
    }
    let engine = engine::new();
    let whole = engine.compile(text).map_err(|error| ScriptError::parse(&error))?;
    if let Some(statement) = whole.statements().first() {
        let what = "only functions can be at the outermost level: put this into one, a constant as fn name() { 1.5 }";
        return Err(ScriptError::at(statement.position(), what));
    }
    let (entry, parameters) = entry(&whole)?;
    let body = body(text, &whole, entry)?;
    let mut scope = Scope::new();
    scope.push(parameters[0].as_str(), Map::new());
    match entry {
        Entry::Score => scope.push(parameters[1].as_str(), Map::new()),
        Entry::Choose => scope.push(parameters[1].as_str(), Array::new()),
    };
    let body = engine.compile_with_scope(&scope, body).map_err(|error| ScriptError::parse(&error))?;
    let words = words(&whole);
    let (of_request, request_needs) = names::used(names::OF_REQUEST, |name| words.contains(name));
    let (of_worker, worker_needs) = names::used(names::OF_WORKER, |name| words.contains(name));
    Ok(CompiledScript {
        engine,
        ast: whole.clone_functions_only().merge(&body),
        entry,
        parameters,
        of_request,
        of_worker,
        needs: request_needs.union(worker_needs),
        warnings: Vec::new(),
    })
}

/// Which of the two functions is there, and what it calls its parameters.
fn entry(ast: &AST) -> Result<(Entry, [String; 2]), ScriptError> {
    let with_name = |entry: Entry| ast.iter_functions().filter(move |f| f.name == entry.name());
    let entry = match (with_name(Entry::Score).count(), with_name(Entry::Choose).count()) {
        (1, 0) => Entry::Score,
        (0, 1) => Entry::Choose,
        (0, 0) => {
            let what = "expected fn score(request, worker) { .. } or fn choose(request, workers) { .. }, there is neither";
            return Err(ScriptError::new(what));
        }
        _ => {
            return Err(ScriptError::new(
                "expected one fn score or one fn choose, there are several; name the others differently",
            ));
        }
    };
    let function = with_name(entry).next();
    match function.map(|f| f.params).as_deref() {
        Some([first, second]) => Ok((entry, [(*first).to_owned(), (*second).to_owned()])),
        params => Err(ScriptError::new(format!(
            "fn {} has {} parameters, expected 2: the request, and {}",
            entry.name(),
            params.map_or(0, <[_]>::len),
            if entry == Entry::Score { "a worker" } else { "the workers" }
        ))),
    }
}

/// The text with everything outside the entry's body blanked, so that places in it stay what they are.
fn body(text: &str, ast: &AST, entry: Entry) -> Result<String, ScriptError> {
    let lost = || ScriptError::new(format!("cannot find the body of fn {}", entry.name()));
    let function = ast.shared_lib().get_script_fn(entry.name(), 2).ok_or_else(lost)?;
    let (start, end) = (function.body.start_position(), function.body.end_position());
    let (mut line, mut column) = (1, 0);
    let mut inside = false;
    let (mut opened, mut closed) = (false, false);
    let mut blank = |c: char| {
        column += 1;
        let here = |position: Position| position.line() == Some(line) && position.position() == Some(column);
        let (starts, ends) = (here(start), here(end));
        opened |= starts && c == '{';
        closed |= ends && c == '}';
        inside &= !ends;
        let shown = if c == '\n' || inside { c } else { ' ' };
        inside |= starts;
        if c == '\n' {
            line += 1;
            column = 0;
        }
        shown
    };
    let body = text.chars().map(&mut blank).collect();
    if opened && closed { Ok(body) } else { Err(lost()) }
}

/// Every property and every string that the script names.
fn words(ast: &AST) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Expr(Expr::Property(property, _))) => {
                words.insert(property.2.to_string());
            }
            Some(ASTNode::Expr(Expr::StringConstant(text, _))) => {
                words.insert(text.to_string());
            }
            _ => {}
        }
        true
    });
    words
}
