//! The proxies under test: started as child processes on one core, ended by their id.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a proxy to listen; sglang-router imports Python first.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One row of the table.
pub struct Peer {
    pub name: String,
    port: u16,
    child: Option<Child>,
}

impl Peer {
    /// Starts every proxy that is installed and whose name contains one of the words of `only` (comma between), milepost with three settings among them.
    pub fn installed(worker: u16, only: &str) -> Vec<Self> {
        let wanted = |name: &str| only.split(',').any(|word| name.contains(word));
        let folder = std::env::temp_dir().join(format!("milepost-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let url = format!("http://127.0.0.1:{worker}");
        let mut peers = vec![Self { name: "direct".to_owned(), port: worker, child: None }];
        let trace = |name: &str| folder.join(name).display().to_string();
        let ours = [
            ("milepost rr, no trace", vec!["--policy", "round_robin"], None),
            ("milepost rr, trace", vec!["--policy", "round_robin"], Some(trace("rr.jsonl"))),
            ("milepost cache_aware, trace", vec!["--policy", "cache_aware"], Some(trace("ca.jsonl"))),
        ];
        for (name, flags, trace) in ours.into_iter().filter(|o| wanted(o.0)) {
            let port = free_port();
            let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
            command.args(["route", "--host", "127.0.0.1", "--disable-health-check", "--log-level", "error"]);
            command.args(["--prometheus-host", "127.0.0.1", "--prometheus-port", "0", "--worker-urls", &url]);
            command.args(["--port", &port.to_string()]).args(flags);
            command.args(trace.iter().flat_map(|t| ["--trace-log", t]));
            peers.push(Self::start(name, port, command));
        }
        peers.extend(wanted("haproxy").then(|| haproxy(&folder, worker)).flatten());
        peers.extend(wanted("nginx").then(|| nginx(&folder, worker)).flatten());
        for policy in ["round_robin", "cache_aware"] {
            let name = format!("sglang-router {policy}");
            peers.extend(wanted(&name).then(|| sglang_router(policy, &url)).flatten());
        }
        peers
    }

    fn start(name: &str, port: u16, command: Command) -> Self {
        // taskset comes with util-linux; where it is missing the proxy is not pinned, and the CPU per request still holds.
        let core = peers_core();
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", &core.to_string()]).arg(command.get_program()).args(command.get_args());
        let quiet =
            |c: &mut Command| c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut plain = command;
        let child = quiet(&mut pinned).or_else(|_| quiet(&mut plain)).unwrap();
        let peer = Self { name: name.to_owned(), port, child: Some(child) };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{name} did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        peer
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// User and system time of the process and its children so far, in microseconds.
    pub fn cpu_us(&self) -> [u64; 2] {
        self.child.as_ref().map_or([0; 2], |child| tree_cpu_us(child.id()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let tree = descendants(child.id());
            let _ = child.kill();
            let _ = child.wait();
            for pid in tree {
                let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
            }
        }
    }
}

fn tree_cpu_us(pid: u32) -> [u64; 2] {
    let add = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
    std::iter::once(pid).chain(descendants(pid)).map(cpu_us).fold([0; 2], add)
}

fn cpu_us(pid: u32) -> [u64; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 (utime, stime), in ticks of 10 ms on every Linux that Rust runs on.
    let mut ticks = after_name.split_whitespace().skip(11).map(|t| t.parse::<u64>().unwrap_or(0) * 10_000);
    [ticks.next().unwrap_or(0), ticks.next().unwrap_or(0)]
}

fn descendants(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = text.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    children.iter().flat_map(|c| std::iter::once(*c).chain(descendants(*c))).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(PathBuf::from).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let hit = folders.map(|f| f.join(program)).find(|p| p.is_file());
    if hit.is_none() {
        println!("{program}: not installed, left out");
    }
    hit
}

fn haproxy(folder: &std::path::Path, worker: u16) -> Option<Peer> {
    let program = found("haproxy")?;
    let (port, config) = (free_port(), folder.join("haproxy.cfg"));
    let text = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  option http-no-delay\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  http-reuse always\n  server s 127.0.0.1:{worker}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&config);
    Some(Peer::start("haproxy", port, command))
}

fn nginx(folder: &std::path::Path, worker: u16) -> Option<Peer> {
    let program = found("nginx")?;
    let (port, config) = (free_port(), folder.join("nginx.conf"));
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {0}/nginx.pid;\nerror_log /dev/null;\nevents {{ worker_connections 4096; }}\nhttp {{\n access_log off;\n client_body_temp_path {0}/body;\n proxy_temp_path {0}/proxy;\n fastcgi_temp_path {0}/f;\n uwsgi_temp_path {0}/u;\n scgi_temp_path {0}/s;\n client_body_buffer_size 1m;\n client_max_body_size 64m;\n keepalive_requests 1000000000;\n upstream w {{ server 127.0.0.1:{worker}; keepalive 256; keepalive_requests 1000000000; }}\n server {{\n  listen 127.0.0.1:{port};\n  location / {{ proxy_pass http://w; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }}\n }}\n}}\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(&config);
    Some(Peer::start("nginx", port, command))
}

fn sglang_router(policy: &str, url: &str) -> Option<Peer> {
    let python = found("python3")?;
    let has = Command::new(&python).args(["-c", "import sglang_router"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|s| s.success()) {
        println!("sglang-router ({policy}): not installed, left out");
        return None;
    }
    let port = free_port();
    let mut command = Command::new(python);
    command.args(["-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--policy", policy]);
    command.args(["--disable-health-check", "--log-level", "error", "--prometheus-host", "127.0.0.1"]);
    command.args([
        "--port",
        &port.to_string(),
        "--prometheus-port",
        &free_port().to_string(),
        "--worker-urls",
        url,
    ]);
    let peer = Peer::start(&format!("sglang-router {policy}"), port, command);
    // It listens before its worker is registered.
    let deadline = Instant::now() + START_TIMEOUT;
    while !ready(port) {
        assert!(Instant::now() < deadline, "sglang-router has no worker");
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(peer)
}

fn ready(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let body = r#"{"text":"a","stream":false}"#;
    let request = format!(
        "POST /generate HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = [0; 12];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b"200")
}

/// The last core of the machine, whatever this process itself is pinned to.
fn peers_core() -> usize {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|l| l.starts_with("processor")).count().saturating_sub(1)
}
