//! The command line, the configuration and the version of each proxy.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Peer, Tracing, free_port, write};

/// Name of our trace in a proxy's folder.
pub(super) const TRACE: &str = "trace.jsonl";

/// Where smg is looked for: its Python must be another one than sglang-router's, as both have a command `smg`.
const SMG_PYTHON: &str = "SMG_PYTHON";
const SMG_PYTHON_DEFAULT: &str = ".cache/milepost-bench/smg/bin/python";

/// Why a peer cannot be started.
pub(super) fn why_missing(peer: Peer) -> Option<String> {
    let nowhere = |program: &str| found(program).is_none().then(|| format!("{program} is not installed"));
    match peer {
        Peer::Direct | Peer::Milepost(..) => None,
        Peer::Haproxy => nowhere("haproxy"),
        Peer::Nginx => nowhere("nginx"),
        Peer::SglangRouter(_) => package_version(&sglang_python(), "sglang-router")
            .is_none()
            .then(|| "python3 has no package sglang-router (pip install sglang-router==0.3.2)".to_owned()),
        Peer::Smg(_) => package_version(&smg_python(), "smg").is_none().then(|| {
            let python = smg_python();
            let folder = python.parent().and_then(Path::parent).unwrap_or(&python).display().to_string();
            format!("{} has no package smg (python3 -m venv {folder} && {folder}/bin/pip install smg==1.13.0; {SMG_PYTHON} names another)", python.display())
        }),
    }
}

/// Name and version.
pub(super) fn version(peer: Peer) -> Option<String> {
    match peer {
        Peer::Direct => None,
        Peer::Milepost(..) => Some(format!("milepost {}{}", env!("CARGO_PKG_VERSION"), commit())),
        Peer::Haproxy => first_line(Command::new(found("haproxy")?).arg("-v")),
        Peer::Nginx => first_line(Command::new(found("nginx")?).arg("-v")),
        Peer::SglangRouter(_) => {
            package_version(&sglang_python(), "sglang-router").map(|v| format!("sglang-router {v}"))
        }
        Peer::Smg(_) => package_version(&smg_python(), "smg").map(|v| format!("smg {v}")),
    }
}

/// How it is started; its files are written into `folder`.
pub(super) fn command(peer: Peer, folder: &Path, port: u16, workers: &[u16]) -> io::Result<Command> {
    let urls: Vec<String> = workers.iter().map(|worker| format!("http://127.0.0.1:{worker}")).collect();
    match peer {
        Peer::Direct => Err(io::Error::other("direct is no program")),
        Peer::Haproxy => haproxy(folder, port, workers),
        Peer::Nginx => nginx(folder, port, workers),
        Peer::SglangRouter(policy) => {
            python_router(&sglang_python(), "sglang_router.launch_router", policy, port, &urls)
        }
        Peer::Smg(policy) => {
            let mut command = python_router(&smg_python(), "smg.launch_router", policy, port, &urls)?;
            // The scripted worker has no loads to tell, and a worker whose loads are unknown is shut out.
            command.arg("--disable-load-monitoring");
            Ok(command)
        }
        Peer::Milepost(policy, tracing) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
            command.current_dir(folder);
            command.args(["route", "--host", "127.0.0.1", "--disable-health-check", "--log-level", "error"]);
            command.args(["--prometheus-host", "127.0.0.1", "--prometheus-port", "0", "--policy", policy]);
            command.args(["--port", &port.to_string(), "--worker-urls"]).args(&urls);
            let collector = format!("http://127.0.0.1:{}/v1/traces", workers[0]);
            let given = |flag: &&'static str| {
                if *flag == Tracing::COLLECTOR { collector.clone() } else { (*flag).to_owned() }
            };
            command.args(tracing.flags.iter().map(given));
            Ok(command)
        }
    }
}

fn haproxy(folder: &Path, port: u16, workers: &[u16]) -> io::Result<Command> {
    let program = found("haproxy").ok_or(io::ErrorKind::NotFound)?;
    let servers: Vec<String> =
        workers.iter().map(|worker| format!("  server s{worker} 127.0.0.1:{worker}\n")).collect();
    // Without http-no-delay the first event of a stream is held for tens of milliseconds.
    let text = format!(
        "global\n  nbthread 1\n  maxconn 9000\ndefaults\n  mode http\n  option http-no-delay\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nfrontend f\n  bind 127.0.0.1:{port}\n  maxconn 9000\n  default_backend b\nbackend b\n  http-reuse always\n{}",
        servers.concat()
    );
    let config = folder.join("haproxy.cfg");
    write(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

fn nginx(folder: &Path, port: u16, workers: &[u16]) -> io::Result<Command> {
    let program = found("nginx").ok_or(io::ErrorKind::NotFound)?;
    let servers: Vec<String> = workers.iter().map(|worker| format!("server 127.0.0.1:{worker}; ")).collect();
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {0}/nginx.pid;\nerror_log {0}/errors;\nworker_rlimit_nofile 16384;\nevents {{ worker_connections 16000; }}\nhttp {{\n access_log off;\n client_body_temp_path {0}/body;\n proxy_temp_path {0}/proxy;\n fastcgi_temp_path {0}/f;\n uwsgi_temp_path {0}/u;\n scgi_temp_path {0}/s;\n client_body_buffer_size 1m;\n client_max_body_size 64m;\n keepalive_requests 1000000000;\n upstream w {{ {1}keepalive 256; keepalive_requests 1000000000; }}\n server {{\n  listen 127.0.0.1:{port};\n  location / {{ proxy_pass http://w; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }}\n }}\n}}\n",
        folder.display(),
        servers.concat()
    );
    let config = folder.join("nginx.conf");
    write(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config);
    Ok(command)
}

fn python_router(
    python: &Path,
    module: &str,
    policy: &str,
    port: u16,
    urls: &[String],
) -> io::Result<Command> {
    let mut command = Command::new(python);
    command.args(["-m", module, "--host", "127.0.0.1", "--port", &port.to_string(), "--policy", policy]);
    command.args(["--disable-health-check", "--log-level", "error", "--prometheus-host", "127.0.0.1"]);
    command.args(["--prometheus-port", &free_port()?.to_string(), "--worker-urls"]).args(urls);
    Ok(command)
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(PathBuf::from).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn sglang_python() -> PathBuf {
    "python3".into()
}

fn smg_python() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    std::env::var_os(SMG_PYTHON).map_or_else(|| home().join(SMG_PYTHON_DEFAULT), PathBuf::from)
}

fn package_version(python: &Path, package: &str) -> Option<String> {
    let script = format!("import importlib.metadata as m; print(m.version('{package}'))");
    first_line(Command::new(python).args(["-c", &script]))
}

fn commit() -> String {
    let short = first_line(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    short.map(|short| format!(" at {short}")).unwrap_or_default()
}

/// The first line that a command says, if it ends well. nginx tells its version on standard error.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&said).lines().next().map(|line| line.trim().to_owned())
}
