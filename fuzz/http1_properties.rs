//! What must hold for any bytes on a connection: the router's codec beside a strict reader of HTTP/1.1.
//!
//! Rule: equal, not merely never looser, so that neither reader can hide a mistake of the other; and the same however the bytes
//! are cut. Deliberately not here: the strict reader (`tests/smuggling/strict.rs`), which the smuggling table uses too.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use milepost::clock::Clock;
use milepost::http1::{Accepted, Connection, Outgoing};
use milepost::net::{Io, Link};
use tokio::io::{AsyncWrite, DuplexStream};

#[path = "../tests/smuggling/strict.rs"]
mod strict;

use strict::Read;

/// Most bytes of a head.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// Length of a part (0: all at once), then what a client sends before it closes. The requests that are handed over are the
/// ones a strict reader finds, with the same fields and bodies, and where it finds a last one nothing follows.
pub fn http1_request(data: &[u8]) {
    let Some((part, bytes)) = data.split_first() else { return };
    let mut rest = bytes;
    let mut wanted = Vec::new();
    while let Read::Whole(request, used_bytes) = strict::request(rest) {
        rest = &rest[used_bytes..];
        wanted.push(request);
        if wanted.last().is_some_and(|request| request.is_last) {
            break;
        }
    }
    assert_eq!(requests(bytes, usize::from(*part)), wanted);
}

/// What the router's codec hands over of these bytes.
fn requests(bytes: &[u8], part: usize) -> Vec<strict::Request> {
    let (near, mut sending) = Sending::of(bytes, part);
    let mut accepted = Accepted::new(near, MAX_HEAD_BYTES);
    let mut found: Vec<strict::Request> = Vec::new();
    while let Ok(Some(mut request)) = sending.drive(|cx| accepted.poll_request(cx)) {
        loop {
            match sending.drive(|cx| accepted.poll_body(&mut request, cx)) {
                Ok(Some(came)) => assert!(came > 0),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
        found.push(strict::Request {
            method: request.method().to_vec(),
            target: request.target().to_vec(),
            fields: owned(request.fields()),
            body: request.body().to_vec(),
            is_coded: request.head.is_coded,
            is_last: !request.head.message.keeps_alive,
        });
        if found.last().is_some_and(|request| request.is_last) {
            break;
        }
        accepted.give_back(request);
    }
    found
}

/// Settings (1: to a HEAD request), length of a part (0: all at once), then what a worker sends. An answer is one exactly where
/// a strict reader finds it, with the same fields and body, and its connection would be used again exactly where nothing speaks
/// against it and nothing came unasked.
pub fn http1_answer(data: &[u8]) {
    let [settings, part, bytes @ ..] = data else { return };
    let to_head = settings & 1 != 0;
    let wanted = match strict::answer(bytes, to_head, true) {
        Read::Whole(answer, used_bytes) => {
            let is_ready = !answer.is_last && used_bytes == bytes.len();
            Some((answer, is_ready))
        }
        Read::Partial | Read::Refused(_) => None,
    };
    assert_eq!(answer(bytes, usize::from(*part), to_head), wanted);
}

/// What the router's codec makes of these bytes, and whether it would use the connection again.
fn answer(bytes: &[u8], part: usize, to_head: bool) -> Option<(strict::Answer, bool)> {
    let (near, mut sending) = Sending::of(bytes, part);
    let mut connection = Connection::new(near, Link::default(), Clock::virtual_time(1_000, 0));
    let head = {
        let mut asked = pin!(connection.send(Outgoing::new([&b"GET / HTTP/1.1\r\n\r\n"[..]]), to_head));
        sending.drive(|cx| asked.as_mut().poll(cx)).ok()?
    };
    let fields = owned(connection.fields());
    let mut body = Vec::new();
    while !connection.body_has_ended() {
        sending.drive(|cx| connection.poll_body(cx)).ok()?;
        connection.take_body(|data| body.extend_from_slice(data)).ok()?;
    }
    sending.send_all();
    let is_last = !head.message.keeps_alive;
    Some((strict::Answer { status: head.status, fields, body, is_last }, connection.is_ready()))
}

fn owned<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> strict::Fields {
    fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// The other end of a pipe: sends a part whenever more is waited for, and closes in the end.
struct Sending<'a> {
    far: Option<DuplexStream>,
    rest: &'a [u8],
    part: usize,
}

impl<'a> Sending<'a> {
    fn of(bytes: &'a [u8], part: usize) -> (Io, Self) {
        let (near, far) = tokio::io::duplex(bytes.len() + 1024);
        let part = if part == 0 { usize::MAX } else { part };
        (Io::Pipe(near), Self { far: Some(far), rest: bytes, part })
    }

    /// Polls until it is ready, without a runtime: nothing here waits for anything but this end.
    fn drive<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        loop {
            if let Poll::Ready(output) = poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            assert!(self.far.is_some(), "it waits for more of a connection that has closed");
            if self.rest.is_empty() {
                self.far = None;
            } else {
                self.send(self.part);
            }
        }
    }

    fn send_all(&mut self) {
        while self.far.is_some() && !self.rest.is_empty() {
            self.send(usize::MAX);
        }
    }

    fn send(&mut self, most: usize) {
        let (part, _) = self.rest.split_at(most.min(self.rest.len()));
        let Some(far) = &mut self.far else { return };
        match Pin::new(far).poll_write(&mut Context::from_waker(Waker::noop()), part) {
            Poll::Ready(Ok(written)) => self.rest = &self.rest[written..],
            _ => self.far = None,
        }
    }
}
