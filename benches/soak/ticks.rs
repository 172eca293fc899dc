//! What `/proc/PID/stat` says of a process's CPU.

/// User and system time so far, seconds; of a process that has ended too, until its parent has taken note.
pub fn cpu_s(stat: &str) -> f64 {
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 (utime, stime), in ticks of 10 ms on every Linux that Rust runs on.
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|t| t.parse().unwrap_or(0.0));
    ticks.sum::<f64>() / 100.0
}
