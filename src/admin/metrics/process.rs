//! The router's own process: CPU time, memory, descriptors.
//!
//! Rule: read when somebody asks, in a few microseconds (descriptors are counted one by one); what this system does not
//! tell is absent. Deliberately not here: the workers' processes, other processes of the host.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) cpu_s: f64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        // Not a time of day or a duration of anything: the kernel's account of this process.
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: resident_bytes(&status),
            // The folder's own descriptor is open while it is read.
            open_fds: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// From `VmRSS:     1234 kB`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes_and_absent_where_the_system_does_not_tell() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t2\n"), Some(1_263_616));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
