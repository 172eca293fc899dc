//! `GET /milepost/trace`: the trace as NDJSON, from a byte of the live file on, or page by page through all files of the capture.
//!
//! `?from=BYTES` (0 without it) is the live file from there to its end at the time of the request. `?from=oldest`, `?from=newest` or a
//! cursor is one page: whole lines, at most `PAGE_BYTES` of them, and in `x-milepost-trace-next` the cursor of the next; it is the same
//! again where nothing new was written yet. A cursor goes on over rotations. Rule: at most one chunk or page in memory, read off
//! the request threads; only files of the capture that is written can be named. Deliberately not here: waiting for more, which is
//! the client's (`milepost trace tail --follow`).

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::header::CONTENT_TYPE;

use super::percent;
use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Refusal;
use crate::trace::capture::Place;
use crate::trace::parts::{parts_of, whole_end};
use crate::trace::unpacking::Unpacking;
use crate::wire::problem::Problem;

/// Bytes read at one time of a whole file.
const CHUNK_BYTES: u64 = 256 * 1024;
/// Bytes of a page at most; a line is shorter.
const PAGE_BYTES: u64 = 4 << 20;
/// A place in a packed file that nobody has read on from for this long, and twice as long at most, has to be found again.
const UNUSED: Duration = Duration::from_secs(30);
/// The header that says where the next page begins.
pub const NEXT: &str = "x-milepost-trace-next";

/// A part of a file as a response body.
#[derive(Debug)]
pub struct FileBody {
    file: Option<File>,
    left_bytes: u64,
}

/// A place in a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The name of its live file.
    pub name: String,
    /// The number of a file.
    pub part: u64,
    /// A byte in it, unpacked.
    pub bytes: u64,
}

impl Cursor {
    /// As a page names it.
    pub fn parse(text: &str) -> Option<Self> {
        match From::parse(text) {
            Some(From::Cursor(cursor)) => Some(cursor),
            _ => None,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it may stand in a header and in a query, whatever the file is called.
        for byte in self.name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        write!(f, "/{}/{}", self.part, self.bytes)
    }
}

/// Where a client wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Byte(u64),
    Oldest,
    Newest,
    Cursor(Cursor),
}

impl From {
    fn parse(text: &str) -> Option<Self> {
        let text = percent::decoded(text)?;
        let mut pieces = text.rsplitn(3, '/');
        match (pieces.next()?, pieces.next(), pieces.next()) {
            ("oldest", None, None) => Some(Self::Oldest),
            ("newest", None, None) => Some(Self::Newest),
            (bytes, None, None) => bytes.parse().ok().map(Self::Byte),
            (bytes, Some(part), Some(name)) => {
                let (part, bytes) = (part.parse().ok()?, bytes.parse().ok()?);
                Some(Self::Cursor(Cursor { name: name.to_owned(), part, bytes }))
            }
            _ => None,
        }
    }
}

/// The trace as NDJSON.
pub async fn tail(shared: &Shared, query: &str) -> Result<Response<AnswerBody>, Refusal> {
    let capture = shared.capture.as_ref();
    let Some((place, unpacking)) = capture.and_then(|capture| Some((capture.place()?, capture.unpacking())))
    else {
        let message = "there is no trace file: the router runs without --trace-log, or with a pipe, or nothing was captured yet";
        return Err(Problem::new(404, "no_trace", message).into());
    };
    let from = query.split('&').find_map(|pair| pair.strip_prefix("from="));
    let Some(from) = From::parse(from.unwrap_or("0")) else {
        let message =
            "from: expected a number of bytes, oldest, newest, or a cursor as x-milepost-trace-next gives it";
        return Err(Problem::new(400, "bad_request", message).into());
    };
    if let From::Byte(from_bytes) = from {
        let body = tokio::task::spawn_blocking(move || rest_of(&place.path, from_bytes)).await;
        let body =
            body.map_err(io::Error::other).and_then(|body| body).map_err(|error| unreadable(&error))?;
        return Ok(ndjson(AnswerBody::File(body)));
    }
    let page = tokio::task::spawn_blocking(move || {
        let page = page(&place, from, &unpacking);
        // Here, as the client may have gone meanwhile.
        tend(&unpacking);
        page
    });
    let (lines, next) = page.await.map_err(|error| unreadable(&io::Error::other(error)))??;
    let mut response = ndjson(AnswerBody::own(lines));
    if let Ok(next) = HeaderValue::from_str(&next.to_string()) {
        response.headers_mut().insert(NEXT, next);
    }
    Ok(response)
}

/// Has the readers of packed files dropped in time.
fn tend(unpacking: &Arc<Unpacking>) {
    if unpacking.wants_tending() {
        let unpacking = Arc::clone(unpacking);
        tokio::spawn(async move {
            tokio::time::sleep(UNUSED).await;
            while unpacking.drop_unused() {
                tokio::time::sleep(UNUSED).await;
            }
        });
    }
}

fn ndjson(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn unreadable(error: &io::Error) -> Problem {
    Problem::new(500, "trace_unreadable", error.to_string())
}

/// `None` of what is not there.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn rest_of(path: &Path, from_bytes: u64) -> io::Result<FileBody> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(from_bytes.min(len)))?;
    Ok(FileBody { file: Some(file), left_bytes: len.saturating_sub(from_bytes) })
}

/// A page and where the next one begins.
fn page(place: &Place, from: From, unpacking: &Unpacking) -> Result<(Vec<u8>, Cursor), Problem> {
    let name = place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let at = |part, bytes| Cursor { name: name.clone(), part, bytes };
    let parts = parts_of(&place.path).map_err(|error| unreadable(&error))?;
    let oldest = at(parts.first().map_or(place.part, |part| part.number), 0);
    let cursor = match from {
        From::Oldest | From::Byte(_) => oldest.clone(),
        From::Newest => {
            let end = there(whole_end(&place.path)).map_err(|error| unreadable(&error))?.unwrap_or(0);
            let now = parts_of(&place.path).map_err(|error| unreadable(&error))?;
            // Rotated in between: the end may be that of the next file, which has only begun.
            let newest = match now.last().filter(|part| part.number >= place.part) {
                Some(part) => at(part.number + 1, 0),
                None => at(place.part, end),
            };
            return Ok((Vec::new(), newest));
        }
        From::Cursor(cursor) => cursor,
    };
    // A file has its number as a name a moment before its writer says that the next one is live.
    let live_part = place.part + u64::from(parts.iter().any(|part| part.number == place.part));
    // What was written before under another name has ended, and the folder may hold what is nobody's business here.
    let is_gone = cursor.name != name || cursor.part < oldest.part || cursor.part > live_part;
    let rotated = parts.iter().find(|part| part.number == cursor.part);
    let path = match rotated {
        _ if is_gone => None,
        Some(part) => Some(&part.path),
        None => (cursor.part == live_part).then_some(&place.path),
    };
    let gone = || {
        let message =
            format!("the trace has nothing at {cursor} any more; the oldest that is there is {oldest}");
        Problem::new(410, "trace_gone", message)
    };
    let Some(path) = path else { return Err(gone()) };
    let lines =
        there(unpacking.whole_lines(path, cursor.bytes, PAGE_BYTES)).map_err(|error| unreadable(&error))?;
    // Behind its end: somebody has removed the file that was read, and this is another one of its name.
    let is_shorter = rotated.is_none() && path.metadata().is_ok_and(|meta| meta.len() < cursor.bytes);
    let now = parts_of(&place.path).map_err(|error| unreadable(&error))?;
    let is_there = |path: &PathBuf| now.iter().any(|part| part.number == cursor.part && part.path == *path);
    let moved = match rotated {
        // The live file was rotated in between, and this was read of the next one.
        None => now.iter().any(|part| part.number == cursor.part),
        // It was packed or removed in between.
        Some(part) => lines.is_none() && !is_there(&part.path),
    };
    if moved {
        return page(place, From::Cursor(cursor), unpacking);
    }
    if is_shorter {
        return Err(gone());
    }
    // The next live file is made when something is written into it.
    let lines = lines.unwrap_or_default();
    let next = if lines.is_empty() && rotated.is_some() {
        at(cursor.part + 1, 0)
    } else {
        at(cursor.part, cursor.bytes + lines.len() as u64)
    };
    Ok((lines, next))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::parts::part_path;

    #[test]
    fn a_cursor_can_stand_in_a_query_and_a_header_whatever_the_file_is_called() {
        let cursor = Cursor { name: "my trace&#%2F+é.jsonl".to_owned(), part: 3, bytes: 12 };
        let told = cursor.to_string();
        assert_eq!(told, "my%20trace%26%23%252F%2B%C3%A9.jsonl/3/12");
        assert_eq!(Cursor::parse(&told), Some(cursor.clone()));
        assert_eq!(Cursor::parse(&told.replace('/', "%2f")), Some(cursor));
        for broken in ["a%/1/2", "a%zz/1/2", "a%ff/1/2", "a%é/1/2"] {
            assert_eq!(Cursor::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_cursor_goes_through_the_files_to_the_end_of_the_live_one() {
        let folder = std::env::temp_dir().join(format!("milepost-tail-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("t.jsonl");
        let place = Place { path: path.clone(), part: 4 };
        std::fs::write(part_path(&path, 2), "two\n").unwrap();
        std::fs::write(part_path(&path, 3), "three\n").unwrap();
        std::fs::write(&path, "four\nfi").unwrap();
        let unpacking = Unpacking::default();
        let mut from = From::Oldest;
        let mut told = String::new();
        for _ in 0..6 {
            let (lines, next) = page(&place, from, &unpacking).unwrap();
            told += &String::from_utf8(lines).unwrap();
            from = From::parse(&next.to_string()).unwrap();
        }
        assert_eq!((told.as_str(), &from), ("two\nthree\nfour\n", &From::parse("t.jsonl/4/5").unwrap()));
        std::fs::write(&path, "four\nfive\n").unwrap();
        assert_eq!(page(&place, from, &unpacking).unwrap().0, b"five\n");
        assert_eq!(page(&place, From::Newest, &unpacking).unwrap().1.to_string(), "t.jsonl/4/10");
        // Rotated between two pages: the same cursor goes on in the file by its new name.
        std::fs::rename(&path, part_path(&path, 4)).unwrap();
        std::fs::write(&path, "six\n").unwrap();
        assert_eq!(page(&place, From::Newest, &unpacking).unwrap().1.to_string(), "t.jsonl/5/0");
        // Nobody has said yet that the fifth is live, and who was sent there is not sent away.
        assert_eq!(page(&place, From::parse("t.jsonl/5/0").unwrap(), &unpacking).unwrap().0, b"six\n");
        let place = Place { part: 5, ..place };
        let (lines, next) = page(&place, From::parse("t.jsonl/4/10").unwrap(), &unpacking).unwrap();
        assert_eq!((lines.len(), next.to_string()), (0, "t.jsonl/5/0".to_owned()));
        for gone in ["t.jsonl/1/0", "t.jsonl/6/0", "t.jsonl/5/5", "other.jsonl/4/0", "../t.jsonl/4/0"] {
            let problem = page(&place, From::parse(gone).unwrap(), &unpacking).unwrap_err();
            assert_eq!((problem.status, problem.code), (410, "trace_gone"), "{gone}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_packed_file_of_many_pages_is_given_whole_and_unpacked_once() {
        let folder = std::env::temp_dir().join(format!("milepost-tail-packed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("t.jsonl");
        let line = format!("{}\n", "x".repeat(9_999));
        let text = line.repeat(1_500);
        let packed = part_path(&path, 1).with_extension("jsonl.zst");
        std::fs::write(packed, zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
        std::fs::write(&path, "live\n").unwrap();
        let (place, unpacking) = (Place { path, part: 2 }, Unpacking::default());
        let (mut told, mut from, mut pages) = (Vec::new(), From::Oldest, 0);
        while !told.ends_with(b"live\n") {
            let (lines, next) = page(&place, from, &unpacking).unwrap();
            assert!(lines.len() as u64 <= PAGE_BYTES);
            told.extend(lines);
            (from, pages) = (From::Cursor(next), pages + 1);
        }
        // Four of the packed file, its end, the live one.
        assert_eq!((told.len(), pages), (text.len() + 5, 6));
        assert!(told.starts_with(text.as_bytes()));
        assert_eq!(unpacking.unpacked_bytes(), text.len() as u64);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "x", "-1", "t.jsonl", "4/5", "t.jsonl/x/5"] {
            assert_eq!(From::parse(text), None, "{text}");
        }
    }
}
