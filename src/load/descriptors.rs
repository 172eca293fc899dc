//! How many connections this process may have open.
//!
//! Rule: a limit of this machine that would make requests fail is said before the run, with what to do; the requests that
//! meet it are rows like any other. Deliberately not here: connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are no connection of the load: streams, the runtime, the trace, results.
const OTHERS: u64 = 64;

/// Raises the limit of open files to what this user may have; `None` is no limit.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    // A refusal leaves the old limit, which is what is then told.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if raised { maximum } else { current }
}

/// What to say where this many requests at one time may not all get a connection.
pub(super) fn shortage(at_once: usize, limit: Option<u64>) -> Option<String> {
    let limit = limit?;
    (at_once as u64 + OTHERS > limit).then(|| {
        format!(
            "{at_once} requests at once may need more open files than the {limit} this process may have; those without one fail \
             as connect: raise `ulimit -n`, or give --max-concurrency or a --request-rate"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let limit = raise();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise(), limit);
    }

    #[test]
    fn a_shortage_is_told_with_both_numbers() {
        let told = shortage(20_000, Some(1024)).unwrap();
        assert!(
            told.contains("20000") && told.contains("1024") && told.contains("--max-concurrency"),
            "{told}"
        );
        assert_eq!(shortage(900, Some(1024)), None);
        assert_eq!(shortage(20_000, None), None);
    }
}
