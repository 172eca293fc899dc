//! Whether a run may need more connections than this process may have.
//!
//! Rule: a limit of this machine that would make requests fail is said before the run, with what to do; the requests that
//! meet it are rows like any other. Deliberately not here: connections, the limit itself (`net::descriptors`).

/// Open files that are no connection of the load: streams, the runtime, the trace, results.
const OTHERS: u64 = 64;

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
