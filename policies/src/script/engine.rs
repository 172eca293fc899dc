//! The Rhai engine that scripts are compiled and run with, and its limits.
//!
//! Rule: a script can compute and nothing else. Of Rhai's packages only arithmetic, logic, math, arrays and maps are there; what
//! would print, evaluate text or load a module is refused when the script is compiled, and everything that can grow or run on
//! has a limit. Deliberately not here: what a script is asked, and what its answer means.

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicMapPackage, BasicMathPackage, LogicPackage, Package,
};
use rhai::{AST, Caches, Dynamic, Engine, GlobalRuntimeState, OptimizationLevel, Scope};

use super::error::{Cause, Failure};

/// Largest text of a script, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 64 * 1024;
/// Operations of one decision for each candidate, all in all; one takes some tens of nanoseconds, and the scripts in
/// `examples/` take 10 to 30 for a candidate.
const OPERATIONS_PER_CANDIDATE: u64 = 100;
/// Operations of one decision besides, so that few workers leave room for a loop. One may copy an array, so that operations bound
/// time but loosely: a script that runs on is not asked for a while, see `script::RESTS_FOR`.
const OPERATIONS: u64 = 2_000;
/// Calls within calls. In a debug build Rhai takes some 50 KiB of stack a call.
const MAX_CALL_LEVELS: usize = 8;
/// Expressions within expressions.
const MAX_EXPR_DEPTH: usize = 32;
/// Longest string, in bytes.
const MAX_STRING_BYTES: usize = 4096;
/// Elements of an array, and entries of a map, beside the workers themselves.
const MAX_ELEMENTS: usize = 256;
/// Variables at one time.
const MAX_VARIABLES: usize = 64;
/// Functions of a script.
const MAX_FUNCTIONS: usize = 64;

/// What Rhai would understand and a policy has no use for.
/// Currying is among it as no limit on sizes sees what a function pointer holds.
const REFUSED: [&str; 6] = ["eval", "print", "debug", "import", "export", "curry"];

/// An engine with these limits.
pub(super) fn new() -> Engine {
    let mut engine = Engine::new_raw();
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    for symbol in REFUSED {
        engine.disable_symbol(symbol);
    }
    engine
        .set_max_call_levels(MAX_CALL_LEVELS)
        .set_max_expr_depths(MAX_EXPR_DEPTH, MAX_EXPR_DEPTH)
        .set_max_string_size(MAX_STRING_BYTES)
        .set_max_variables(MAX_VARIABLES)
        .set_max_functions(MAX_FUNCTIONS)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_optimization_level(OptimizationLevel::Full)
        .register_fn("known", |value: Dynamic| !value.is_unit())
        .register_fn("or", |value: Dynamic, other: Dynamic| if value.is_unit() { other } else { value });
    limit(&mut engine, 1, 0);
    engine
}

/// Limits for the next decision, among so many workers, which are shown with so many values in all.
pub(super) fn limit(engine: &mut Engine, workers: usize, values: usize) {
    engine.set_max_operations(OPERATIONS + OPERATIONS_PER_CANDIDATE * workers as u64);
    // Rhai counts what is within arrays and maps too.
    engine.set_max_array_size(MAX_ELEMENTS + workers);
    engine.set_max_map_size(MAX_ELEMENTS + values);
}

/// What Rhai keeps while a script runs. Kept from run to run, as it remembers where the functions are that the script calls,
/// and counts the operations of all runs of a decision; looking them up anew would take half of the time.
pub(super) struct Run {
    global: GlobalRuntimeState,
    caches: Caches,
}

impl Run {
    pub(super) fn new(engine: &Engine, ast: &AST) -> Self {
        let mut global = engine.new_global_runtime_state();
        global.lib.push(ast.shared_lib().clone());
        let mut caches = Caches::new();
        caches.push_fn_resolution_cache();
        Self { global, caches }
    }

    /// A decision begins.
    pub(super) fn begin(&mut self) {
        self.global.num_operations = 0;
    }

    /// Runs the statements of `ast`. After an error this value is of no use any more.
    pub(super) fn once(
        &mut self,
        engine: &Engine,
        ast: &AST,
        scope: &mut Scope<'static>,
    ) -> Result<Dynamic, Failure> {
        #[expect(
            deprecated,
            reason = "the one way to run statements with a state that is kept; Rhai has it until version 2"
        )]
        let run = || engine.eval_statements_raw(&mut self.global, &mut self.caches, scope, ast.statements());
        // A defect of Rhai's must not be one of the router's.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(answer) => answer.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::new(Cause::Error, "the script engine panicked; please report the script")),
        }
    }
}
