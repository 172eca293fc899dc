//! A client's reader of answers, which shares no code with the router's.
//!
//! Deliberately not here: reading from the connection (`client`).

/// An answer, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// `x-request-id`.
    pub id: Option<String>,
    /// `x-smg-error-code`: it is the router's own.
    pub code: Option<String>,
    /// `x-worker-url`.
    pub worker: Option<String>,
    /// The body's data.
    pub data: Vec<u8>,
    /// Its end has come.
    pub whole: bool,
    /// Its end is that of the connection, or it says that it is the last.
    pub is_last: bool,
    /// How many bytes are missing, where that is known.
    pub missing_bytes: Option<usize>,
    /// Bytes it takes, those of interim answers before it included.
    pub used_bytes: usize,
}

/// Reads the answer at the start of `bytes`; `None` before its head has ended. `eof`: nothing more comes. The error says what
/// is wrong with it.
pub fn read(bytes: &[u8], eof: bool, to_head: bool, is_http_11: bool) -> Result<Option<Answer>, String> {
    let mut start = 0;
    loop {
        let Some(end) = bytes[start..].windows(4).position(|w| w == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&bytes[start..start + end]).map_err(|e| e.to_string())?;
        let body_at = start + end + 4;
        let mut answer = read_head(head)?;
        if answer.status < 200 {
            if answer.status != 100 {
                return Err(format!("an interim answer with status {}", answer.status));
            }
            start = body_at;
            continue;
        }
        let (used, data) = read_body(&mut answer, head, &bytes[body_at..], (eof, to_head, is_http_11))?;
        answer.used_bytes = body_at + used;
        answer.data = data;
        return Ok(Some(answer));
    }
}

/// True once an interim or a final head has come.
pub fn has_head(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|w| w == b"\r\n\r\n")
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let matching = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    head.lines().skip(1).find_map(matching).map(|(_, value)| value)
}

fn read_head(head: &str) -> Result<Answer, String> {
    let first = head.lines().next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|s| s.parse().ok());
    let own = |name| field(head, name).map(str::to_owned);
    Ok(Answer {
        status: status.ok_or(format!("the status line {first:?}"))?,
        id: own("x-request-id"),
        code: own("x-smg-error-code"),
        worker: own("x-worker-url"),
        is_last: field(head, "connection").is_some_and(|v| v == "close"),
        ..Answer::default()
    })
}

/// How many bytes the body takes, and its data.
fn read_body(
    answer: &mut Answer,
    head: &str,
    rest: &[u8],
    (eof, to_head, is_http_11): (bool, bool, bool),
) -> Result<(usize, Vec<u8>), String> {
    let chunked = field(head, "transfer-encoding").is_some_and(|v| v == "chunked");
    let length: Option<usize> =
        field(head, "content-length").map(|v| v.parse().map_err(|_| v)).transpose()?;
    if chunked && (length.is_some() || !is_http_11) {
        return Err(format!("an answer framed as its client cannot read it: {head:?}"));
    }
    // A client of HTTP/1.0 is told if the connection goes on.
    answer.is_last |= !is_http_11 && field(head, "connection").is_none_or(|v| v != "keep-alive");
    if to_head || matches!(answer.status, 204 | 304) {
        answer.whole = true;
        return Ok((0, Vec::new()));
    }
    if chunked {
        let (used, data, whole) = unchunk(rest)?;
        answer.whole = whole;
        return Ok((used, data));
    }
    let Some(length) = length else {
        answer.is_last = true;
        answer.whole = eof;
        return Ok((rest.len(), rest.to_vec()));
    };
    let here = length.min(rest.len());
    answer.whole = here == length;
    answer.missing_bytes = Some(length - here);
    Ok((here, rest[..here].to_vec()))
}

fn unchunk(mut rest: &[u8]) -> Result<(usize, Vec<u8>, bool), String> {
    let (mut used, mut data) = (0, Vec::new());
    loop {
        let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
            return Ok((used, data, false));
        };
        let digits = std::str::from_utf8(&rest[..line]).unwrap_or("?");
        let size = usize::from_str_radix(digits, 16).map_err(|_| format!("the chunk size {digits:?}"))?;
        let after = &rest[line + 2..];
        if size == 0 {
            let ended = after.starts_with(b"\r\n");
            return if ended || after.len() < 2 {
                Ok((used + line + 2 + if ended { 2 } else { 0 }, data, ended))
            } else {
                Err("trailers".to_owned())
            };
        }
        data.extend_from_slice(&after[..size.min(after.len())]);
        if after.len() < size + 2 {
            return Ok((used, data, false));
        }
        if &after[size..size + 2] != b"\r\n" {
            return Err("a chunk that does not end".to_owned());
        }
        used += line + 2 + size + 2;
        rest = &after[size + 2..];
    }
}
