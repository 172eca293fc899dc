//! A page of `docs/` that is made of a table in the tests or in the code.
//!
//! Rule: the page that lies in the repository is what the table says, or the test fails and tells the command that writes it
//! anew. Deliberately not here: what stands on it.

use std::path::Path;

/// Fails unless `docs/{name}` is `page`; with `MILEPOST_REWRITE_DOCS` set it is written first. `rewriter`: what `cargo test`
/// has to be told for that.
pub fn hold(name: &str, page: &str, rewriter: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("MILEPOST_REWRITE_DOCS").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/{name} is not what its table says; MILEPOST_REWRITE_DOCS=1 cargo test {rewriter} writes it"
    );
}
