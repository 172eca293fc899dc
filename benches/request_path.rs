//! Nanoseconds of each step of a request, of each policy's decision, and of the lock round it: the router's own functions.
//!
//! `cargo bench --bench request_path [-- --quick]`; `end_to_end` prints the same beside what a request costs in all. Times are
//! CPU of the measuring thread, medians of rounds. Deliberately not here: sockets and the runtime, which are the rest.

#[path = "request_path/mod.rs"]
mod request_path;
#[path = "end_to_end/table.rs"]
mod table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match request_path::measure(cores, quick) {
        Ok(steps) => request_path::sections(&steps, None)
            .iter()
            .for_each(|(_, title, text)| println!("## {title}\n\n{text}")),
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(1);
        }
    }
}
