//! What lies in `deploy/` and the pages beside it, held to the real tables: flags, series, labels, paths, ports, times.
//!
//! Rule: whoever copies a file of `deploy/` gets what its comments promise, in this version. Deliberately not here: whether
//! systemd, Docker and Kubernetes are well.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod chinese;
mod flags;
#[path = "../kept_page/mod.rs"]
mod kept_page;
mod kubernetes;
mod monitoring;
mod packaging;
mod promql;
mod scripts;
mod trace_page;

use std::path::{Path, PathBuf};

/// A file of the repository, by its path from the root.
fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}
