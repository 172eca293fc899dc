//! File descriptors: how many this process may have, and whether a socket failed for want of them.
//!
//! Rule: what this process lacks is never put down to the other end of a connection. Deliberately not here: how many of them
//! who gets (`cli::route`, `load`).

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to what this user may have; `None` is no limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    // A refusal leaves the old limit, which is what is then told.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if raised { maximum } else { current }
}

/// True for an error that says that this process or machine has no descriptor left, and nothing of the other end. A machine
/// without a free local port is not told from one without an address of the right family.
pub fn is_shortage(error: &io::Error) -> bool {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    is(Errno::MFILE) || is(Errno::NFILE)
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
    fn a_refused_connection_is_no_shortage_of_ours() {
        let of = |errno: Errno| is_shortage(&io::Error::from(errno));
        assert!(of(Errno::MFILE) && of(Errno::NFILE));
        assert!(!of(Errno::CONNREFUSED) && !of(Errno::ADDRNOTAVAIL) && !is_shortage(&io::Error::other("x")));
    }
}
