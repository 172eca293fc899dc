//! The smallest HTTP on both sides: a client for one request a connection, a worker that does what a test says.
//!
//! Deliberately not here: anything a real client would do; `tests/it` has one that shows every byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use crate::process::PATIENCE;

/// Sends bytes and reads until the other side closes (the request must ask for that); status and the whole text.
pub fn exchange(address: &str, bytes: &[u8]) -> (u16, String) {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|s| s.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {text:?}")), text)
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn get(address: &str, path: &str) -> (u16, String) {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").as_bytes())
}

/// The bytes of a POST of JSON; more header lines end with CR LF.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: r\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads until `needle` has come.
pub fn read_until(stream: &mut TcpStream, text: &mut String, needle: &str) {
    let mut bytes = [0; 4096];
    while !text.contains(needle) {
        let read = stream.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "closed before {needle:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

/// A worker: `answer` gets each request whole (head and body as text) and the connection to write to. Its URL.
pub fn scripted(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), answer) = (stream, Arc::clone(&answer)) else { return };
            std::thread::spawn(move || converse(stream, &*answer));
        }
    });
    url
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&str, &mut TcpStream)) {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    loop {
        let whole = text.find("\r\n\r\n").map(|end| end + 4 + length(&text[..end]));
        if let Some(whole) = whole.filter(|whole| text.len() >= *whole) {
            let request: String = text.drain(..whole).collect();
            answer(&request, &mut stream);
            continue;
        }
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(read) => text.push_str(&String::from_utf8_lossy(&bytes[..read])),
        }
    }
}

fn length(head: &str) -> usize {
    let line = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    line.unwrap_or(0)
}

/// A whole JSON answer.
pub fn reply(stream: &mut TcpStream, status: &str, body: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A router that has gone is the test's own doing.
    let _ = stream.write_all(answer.as_bytes());
}
