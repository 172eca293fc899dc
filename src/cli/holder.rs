//! Who holds a TCP port: process id and command name, as far as this user may see.
//!
//! Rule: it is asked only when binding has failed, reads `/proc` and nothing else, and where it finds nothing it says so in
//! words that help. Deliberately not here: other systems than Linux, where there is no `/proc` and the answer is unknown.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most processes looked at.
const MAX_PROCESSES: usize = 100_000;
/// Most descriptors looked at, of all processes together.
const MAX_DESCRIPTORS: usize = 2_000_000;
/// Most of a table of sockets that is read, in lines.
const MAX_SOCKETS: usize = 1_000_000;
/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that may be looked at.
    Process {
        /// Its id.
        pid: u32,
        /// Its command name, cut by the kernel at 15 characters.
        name: String,
    },
    /// A process of another user, which may not be looked at.
    User {
        /// That user.
        uid: u32,
        /// The port.
        port: u16,
    },
    /// Nobody that can be seen from here.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "pid {pid} ({name})"),
            Self::User { uid, port } => write!(
                f,
                "a process that this user may not look at (its user is {uid}; as root: ss -ltnp 'sport = :{port}')"
            ),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

/// Who listens where a listener on `address` would be in the way.
pub fn of(address: SocketAddr) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<Socket> = tables.iter().flat_map(|table| in_the_way(table, address)).collect();
    let Some(first) = sockets.first() else { return Holder::Unknown };
    let names: Vec<String> = sockets.iter().map(|s| format!("socket:[{}]", s.inode)).collect();
    match process_with(&names) {
        Some(pid) => Holder::Process { pid, name: command_name(pid) },
        None => Holder::User { uid: first.uid, port: address.port() },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    inode: u64,
    uid: u32,
}

/// The listeners of a table such as `/proc/net/tcp` that keep another one from `address`.
fn in_the_way(table: &str, address: SocketAddr) -> impl Iterator<Item = Socket> {
    let lines = table.lines().skip(1).take(MAX_SOCKETS);
    lines.filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let &[_, local, _, LISTEN, _, _, _, uid, _, inode] = fields.as_slice() else { return None };
        let conflicts = conflict(socket_address(local)?, address);
        conflicts.then_some(Socket { inode: inode.parse().ok()?, uid: uid.parse().ok()? })
    })
}

/// Both cannot listen: one port, and one address or one that means all. An IPv6 listener on all addresses takes IPv4 too.
fn conflict(listener: SocketAddr, wanted: SocketAddr) -> bool {
    let (a, b) = (listener.ip().to_canonical(), wanted.ip().to_canonical());
    let all = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
    listener.port() == wanted.port() && (a == b || all(a, b) || all(b, a))
}

/// `0100007F:1F90`: the words of the address as this machine has them in memory, and the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |i: usize| Some(u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (i, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(i)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The lowest id of a process that has one of `sockets` open: of a server that forked, the one that can be told to end.
fn process_with(sockets: &[String]) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut pids: Vec<u32> = pids.take(MAX_PROCESSES).collect();
    pids.sort_unstable();
    let mut descriptors_left = MAX_DESCRIPTORS;
    pids.into_iter().find(|pid| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            descriptors_left = descriptors_left.saturating_sub(1);
            let target = || fs::read_link(descriptor.path()).ok();
            descriptors_left > 0
                && target().is_some_and(|t| sockets.iter().any(|s| t.as_os_str() == s.as_str()))
        })
    })
}

fn command_name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // A process chooses its name; a line of ours stays one line.
    let name: String = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "name unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_of_this_process_is_found_from_every_address_it_is_in_the_way_of() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for ip in ["127.0.0.1", "0.0.0.0", "::"] {
            let holder = of(SocketAddr::new(ip.parse().unwrap(), port));
            let Holder::Process { pid, name } = &holder else { panic!("{ip}: {holder:?}") };
            assert_eq!(*pid, std::process::id(), "{ip}");
            assert_eq!(holder.to_string(), format!("pid {pid} ({name})"));
        }
        assert_eq!(of(SocketAddr::new("127.0.0.2".parse().unwrap(), port)), Holder::Unknown);
    }

    /// As the kernel prints them on a little-endian machine: header, a listener on 127.0.0.1:8080, a connection of it, a
    /// listener on `[::1]:8080`.
    #[cfg(target_endian = "little")]
    #[test]
    fn only_listeners_are_in_the_way_and_their_user_is_known() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41 1 0 100\n\
             1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 42 1 0 100\n\
             2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 7 0 43 1\n\
             torn line";
        let found = |address: &str| -> Vec<u64> {
            in_the_way(table, address.parse().unwrap()).map(|socket| socket.inode).collect()
        };
        assert_eq!(found("127.0.0.1:8080"), [41]);
        assert_eq!(found("0.0.0.0:8080"), [41]);
        assert_eq!(found("[::1]:8080"), [43]);
        assert_eq!(found("[::]:8080"), [41, 43]);
        assert!(found("127.0.0.1:8081").is_empty());
        let socket = in_the_way(table, "127.0.0.1:8080".parse().unwrap()).next().unwrap();
        let told = Holder::User { uid: socket.uid, port: 8080 }.to_string();
        assert!(
            told.contains("may not look at") && told.contains("1000") && told.contains("ss -ltnp"),
            "{told}"
        );
    }
}
