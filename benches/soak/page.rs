//! The router's own counts: one look at `/metrics`.
//!
//! Deliberately not here: what they have to be (`settle`, `audit`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for the page.
const PATIENCE: Duration = Duration::from_secs(10);

/// The page.
#[derive(Clone, Debug, Default)]
pub struct Page(String);

impl Page {
    /// Fetches it.
    pub async fn fetch(from: SocketAddr) -> Result<Self, String> {
        let fetching = tokio::time::timeout(PATIENCE, fetch(from)).await;
        let text = match fetching {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(format!("/metrics: {error}")),
            Err(_) => return Err(format!("/metrics: no answer in {PATIENCE:?}")),
        };
        Ok(Self(text))
    }

    /// The sum of a family's series whose labels hold `label`; for counts.
    pub fn sum(&self, family: &str, label: &str) -> i64 {
        let of_family = |line: &&str| {
            line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        };
        let value =
            |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).map(|v| v as i64);
        self.0.lines().filter(of_family).filter_map(value).sum()
    }
}

async fn fetch(from: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(from).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}
