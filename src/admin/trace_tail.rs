//! `GET /milepost/trace?from=BYTES`: the trace file from a byte on, up to its end at the time of the request.
//!
//! Rule: at most one chunk in memory, read off the request threads; whole lines only if `from` was one line's start.
//! Deliberately not here: following the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::header::CONTENT_TYPE;

use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Refusal;
use crate::wire::problem::Problem;

/// Bytes read at one time.
const CHUNK_BYTES: u64 = 256 * 1024;

/// A part of a file as a response body.
#[derive(Debug)]
pub struct FileBody {
    file: Option<File>,
    left_bytes: u64,
}

/// The trace as NDJSON.
pub fn tail(shared: &Shared, query: &str) -> Result<Response<AnswerBody>, Refusal> {
    let Some(path) = &shared.config.trace_log else {
        return Err(Problem::new(404, "no_trace", "this router runs without --trace-log").into());
    };
    let from = query.split('&').find_map(|pair| pair.strip_prefix("from="));
    let Ok(from_bytes) = from.unwrap_or("0").parse::<u64>() else {
        return Err(Problem::new(400, "bad_request", "from: expected a number of bytes").into());
    };
    let opened = File::open(path).and_then(|mut file| {
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(from_bytes.min(len)))?;
        Ok(FileBody { file: Some(file), left_bytes: len.saturating_sub(from_bytes) })
    });
    match opened {
        Ok(body) => {
            let mut response = Response::new(AnswerBody::File(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
            Ok(response)
        }
        Err(error) => Err(Problem::new(500, "trace_unreadable", error.to_string()).into()),
    }
}

impl FileBody {
    /// The next chunk, or the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut file = self.file.take().filter(|_| self.left_bytes > 0)?;
        let want = self.left_bytes.min(CHUNK_BYTES);
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(want as usize);
            (&mut file).take(want).read_to_end(&mut chunk)?;
            Ok((file, chunk))
        });
        match read.await.map_err(io::Error::other).and_then(|read| read) {
            Ok((_, chunk)) if chunk.is_empty() => None,
            Ok((file, chunk)) => {
                self.left_bytes -= (chunk.len() as u64).min(self.left_bytes);
                self.file = Some(file);
                Some(Ok(chunk.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
