//! Standard output and standard error of the commands.
//!
//! Rule: who reads them may leave at any time (`| head -1`). That ends nothing and changes no exit code: files are written and runs
//! are judged all the same. Standard output that cannot be written for another reason, such as a full disk, is an error; of
//! standard error nobody is left to be told. `print!` and its kin panic in all of these cases and are refused by clippy.
//! Deliberately not here: the lines of a router that runs (`log`), and what is said.

use std::io::{self, Write};

/// Writes to standard output, as it is. False: its reader has gone, and wants no more.
///
/// # Errors
/// It cannot be written, though somebody may read it.
pub fn print(bytes: &[u8]) -> io::Result<bool> {
    write_to(&mut io::stdout().lock(), bytes)
}

/// Writes to standard error, as it is.
pub fn tell(text: &str) {
    let _ = write_to(&mut io::stderr().lock(), text.as_bytes());
}

/// Writes a line to standard error.
pub fn tell_line(text: &str) {
    tell(&format!("{text}\n"));
}

fn write_to(to: &mut impl Write, bytes: &[u8]) -> io::Result<bool> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        let mut out = Vec::new();
        assert!(write_to(&mut out, b"all").unwrap() && out == b"all");
        assert!(!write_to(&mut Failing(io::ErrorKind::BrokenPipe), b"x").unwrap());
        let full = write_to(&mut Failing(io::ErrorKind::StorageFull), b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
