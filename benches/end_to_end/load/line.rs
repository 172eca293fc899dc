//! One connection of the load: a socket that is never waited for, what is still to be written, what has been read.
//!
//! Deliberately not here: which side of the proxy it is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use super::message::{Reader, Side};

/// What a look at the socket gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Nothing yet, or a part.
    Part,
    /// A whole message.
    Message,
    /// The other side has closed.
    Closed,
}

/// A connection.
pub struct Line {
    stream: TcpStream,
    unwritten: Vec<u8>,
    /// What has been read of the current message.
    pub reader: Reader,
}

impl Line {
    pub fn new(stream: TcpStream, side: Side) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unwritten: Vec::new(), reader: Reader::new(side) })
    }

    /// Writes all of it, now or when there is room; true if some is left, so that room has to be waited for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.unwritten.is_empty() {
            let written = match self.stream.write(bytes) {
                Ok(written) => written,
                Err(error) if is_pause(&error) => 0,
                Err(error) => return Err(error),
            };
            self.unwritten.extend_from_slice(&bytes[written..]);
        } else {
            self.unwritten.extend_from_slice(bytes);
        }
        Ok(!self.unwritten.is_empty())
    }

    /// There is room; true if some is still left.
    pub fn flush(&mut self) -> io::Result<bool> {
        let left = std::mem::take(&mut self.unwritten);
        self.write(&left)
    }

    /// Reads once into `room` and takes what came.
    pub fn read(&mut self, room: &mut [u8]) -> Result<Got, String> {
        match self.stream.read(room) {
            Ok(0) if self.reader.close() => Ok(Got::Message),
            Ok(0) => Ok(Got::Closed),
            Ok(bytes) => Ok(if self.reader.push(&mut room[..bytes])? { Got::Message } else { Got::Part }),
            Err(error) if is_pause(&error) => Ok(Got::Part),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
