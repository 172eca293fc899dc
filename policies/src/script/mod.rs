//! `script`: a policy that a user writes, in [Rhai](https://rhai.rs), without a rebuild.
//!
//! A script has `fn score(request, worker)`, which gives each worker a number (the highest is chosen; ties as in
//! `shortest_queue`) or `()` for one that is not to be taken, or else `fn choose(request, workers)`, which gives an index.
//! Rule: whatever a script does, the request is routed. One that throws, runs on, gives no number or names nobody is passed over
//! for this request: `shortest_queue` chooses, and the reason says why ([`Cause::reason`]). What a script knows are the views
//! and nothing else, and it keeps nothing between two runs, so its decisions can be replayed. Deliberately not here: files.

mod compile;
mod engine;
mod error;
mod formula;
mod labels;
mod names;
mod rehearsal;

use rhai::{Array, Dynamic, Map, Scope};

pub use self::compile::CompiledScript;
use self::compile::Entry;
pub use self::engine::MAX_SCRIPT_BYTES;
use self::error::Failure;
pub use self::error::{Cause, Place, ScriptError};
pub use self::formula::{Formula, Known};
use self::labels::LabelMaps;
use self::names::{LABELS, Shown, Value};
use crate::decision::Decision;
use crate::policy::{Needs, Policy};
use crate::shortest_queue::choose_least_loaded;
use crate::view::{RequestView, Time, Workers};

/// Compiles a script, and tries it on made-up workers: see [`CompiledScript::warnings`].
pub fn compile(text: &str) -> Result<CompiledScript, ScriptError> {
    let compiled = compile::compile(text)?;
    Ok(rehearsal::rehearsed(compiled))
}

/// So many decisions in a row that ran on ...
const RUNS_ON: u32 = 3;
/// ... and the script is not asked for so many: each held up everybody under the router's lock.
const RESTS_FOR: u32 = 1_000;

/// See the module.
pub struct Script {
    label: &'static str,
    compiled: CompiledScript,
    /// The two parameters; kept, as making maps costs more than filling them.
    scope: Scope<'static>,
    labels: LabelMaps,
    run: engine::Run,
    complaint: Option<String>,
    /// Decisions in a row that ran on.
    ran_on: u32,
    /// Decisions for which it is not asked.
    rests_for: u32,
}

impl Script {
    /// The policy's name is `label`.
    pub fn new(label: &'static str, compiled: CompiledScript) -> Self {
        let mut scope = Scope::new();
        scope.push(compiled.parameters[0].as_str(), Map::new());
        scope.push_dynamic(compiled.parameters[1].as_str(), Dynamic::UNIT);
        let run = engine::Run::new(&compiled.engine, &compiled.ast);
        let labels = LabelMaps::new(compiled.of_worker.iter().any(|value| value.name == LABELS));
        Self { label, compiled, scope, labels, run, complaint: None, ran_on: 0, rests_for: 0 }
    }

    fn ask(
        &mut self,
        request: &RequestView<'_>,
        workers: &Workers<'_>,
        out: &mut Decision,
    ) -> Result<usize, Failure> {
        if let Some(rests_for) = self.rests_for.checked_sub(1) {
            self.rests_for = rests_for;
            let what =
                format!("it took too many operations {RUNS_ON} times in a row and is not asked for a while");
            return Err(Failure::new(Cause::Operations, what));
        }
        self.run.begin();
        let answer = match self.compiled.entry {
            Entry::Score => self.score_all(request, workers, out),
            Entry::Choose => self.choose_once(request, workers),
        };
        let ran_on = matches!(&answer, Err(failure) if failure.cause == Cause::Operations);
        self.ran_on = if ran_on { self.ran_on + 1 } else { 0 };
        if self.ran_on == RUNS_ON {
            (self.ran_on, self.rests_for) = (0, RESTS_FOR);
        }
        answer
    }

    fn score_all(
        &mut self,
        request: &RequestView<'_>,
        workers: &Workers<'_>,
        out: &mut Decision,
    ) -> Result<usize, Failure> {
        engine::limit(&mut self.compiled.engine, workers.len(), self.labels.count(workers));
        let mut best = f64::NEG_INFINITY;
        for (index, worker) in workers.iter().enumerate() {
            let shown = Shown { view: worker, labels: self.labels.at(workers, index) };
            let slot = argument(&mut self.scope, &self.compiled.parameters[1])?;
            fill(slot, &self.compiled.of_worker, |value| (value.get)(&shown));
            let answer = self.answer(request)?;
            if answer.is_unit() {
                continue;
            }
            let score = number(&answer).map_err(|(cause, what)| {
                Failure::new(cause, format!("the score of worker {index} {what}"))
            })?;
            out.score(index, score);
            best = best.max(score);
        }
        let scores = out.scores();
        let is_best = |index: usize| scores[index].is_some_and(|score| score >= best);
        best_of(workers, is_best).ok_or_else(|| Failure::new(Cause::Nobody, "every worker's score is ()"))
    }

    fn choose_once(&mut self, request: &RequestView<'_>, workers: &Workers<'_>) -> Result<usize, Failure> {
        let values = workers.len() * self.compiled.of_worker.len() + self.labels.count(workers);
        engine::limit(&mut self.compiled.engine, workers.len(), values);
        self.fill_all(workers)?;
        let answer = self.answer(request)?;
        if answer.is_unit() {
            return Err(Failure::new(Cause::Nobody, "choose gave ()"));
        }
        let Ok(index) = answer.as_int() else {
            let what = format!("choose gave a value of type {}, expected an index", answer.type_name());
            return Err(Failure::new(Cause::WrongType, what));
        };
        usize::try_from(index).ok().filter(|index| *index < workers.len()).ok_or_else(|| {
            let what = format!("choose gave {index}, expected an index from 0 to {}", workers.len() - 1);
            Failure::new(Cause::UnknownWorker, what)
        })
    }

    /// Makes the second parameter an array of maps, one for each worker.
    fn fill_all(&mut self, workers: &Workers<'_>) -> Result<(), Failure> {
        let slot = argument(&mut self.scope, &self.compiled.parameters[1])?;
        if slot.write_lock::<Array>().is_none() {
            *slot = Dynamic::from_array(Array::new());
        }
        if let Some(mut array) = slot.write_lock::<Array>() {
            array.resize(workers.len(), Dynamic::UNIT);
            for (index, (slot, view)) in array.iter_mut().zip(workers).enumerate() {
                let shown = Shown { view, labels: self.labels.at(workers, index) };
                fill(slot, &self.compiled.of_worker, |value| (value.get)(&shown));
            }
        }
        Ok(())
    }

    /// Runs it once, with a request that no run before has changed.
    fn answer(&mut self, request: &RequestView<'_>) -> Result<Dynamic, Failure> {
        fill(argument(&mut self.scope, &self.compiled.parameters[0])?, &self.compiled.of_request, |value| {
            (value.get)(request)
        });
        let CompiledScript { engine, ast, .. } = &self.compiled;
        let answer = self.run.once(engine, ast, &mut self.scope);
        self.scope.rewind(2);
        if answer.is_err() {
            self.run = engine::Run::new(engine, ast);
        }
        answer
    }
}

impl Policy for Script {
    fn name(&self) -> &'static str {
        self.label
    }

    fn needs(&self) -> Needs {
        self.compiled.needs
    }

    fn choose(&mut self, _now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        match self.ask(request, workers, out) {
            Ok(index) => {
                self.complaint = None;
                out.choose(index, "script");
            }
            Err(failure) => {
                self.complaint = Some(failure.what);
                choose_least_loaded(workers, out, failure.cause.reason());
                out.fell_back(failure.cause.word());
            }
        }
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}

/// The least loaded of those that are best.
fn best_of(workers: &Workers<'_>, is_best: impl Fn(usize) -> bool) -> Option<usize> {
    let best = workers.iter().enumerate().filter(|(index, _)| is_best(*index));
    best.min_by_key(|(_, w)| (w.in_flight_requests, w.last_chosen_seq, w.id)).map(|(index, _)| index)
}

/// The number that it is, or why it is none and what it is instead.
fn number(answer: &Dynamic) -> Result<f64, (Cause, String)> {
    let number = answer.as_float().or_else(|_| answer.as_int().map(|number| number as f64));
    match number {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(number) => Err((Cause::NotFinite, format!("is {number}, expected a finite number"))),
        Err(kind) => Err((Cause::WrongType, format!("is of type {kind}, expected a number, or () for none"))),
    }
}

/// A parameter's place.
fn argument<'a>(scope: &'a mut Scope<'static>, name: &str) -> Result<&'a mut Dynamic, Failure> {
    scope.get_mut(name).ok_or_else(|| Failure::new(Cause::Error, format!("{name} is no variable")))
}

/// Makes `slot` a map of these values. A script may have put anything there.
fn fill<F>(slot: &mut Dynamic, values: &[&'static Value<F>], get: impl Fn(&Value<F>) -> Dynamic) {
    if let Some(mut map) = slot.write_lock::<Map>()
        && map.len() == values.len()
        && values.iter().all(|value| map.get_mut(value.name).map(|slot| *slot = get(value)).is_some())
    {
        return;
    }
    let map: Map = values.iter().map(|value| (value.name.into(), get(value))).collect();
    *slot = Dynamic::from_map(map);
}
