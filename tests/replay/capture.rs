//! A captured exchange: the curl command that asked, and the bytes that came back, cut where the server had cut them.
//!
//! Rule: nothing of the answer is made up; of a stream without kept framing only the chunk sizes are ours (one event a chunk).
//! Deliberately not here: what the answer means.

use std::path::Path;

use serde_json::Value;

/// One exchange.
pub struct Capture {
    /// Folder and file, also its request id.
    pub name: String,
    pub method: &'static str,
    pub path: String,
    pub content_type: Option<String>,
    pub request_body: Vec<u8>,
    /// Status line and headers, with the blank line.
    pub head: Vec<u8>,
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as HTTP sees it.
    pub body: Vec<u8>,
    /// What goes over the wire after the head, one write each.
    pub frames: Vec<Vec<u8>>,
    /// Length of the body when each frame has arrived.
    pub ends: Vec<usize>,
}

impl Capture {
    pub fn read(folder: &Path, file: &str) -> Self {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let comment = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
        let blank = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect(file) + 4;
        let head = bytes[comment..blank].to_vec();
        let text = String::from_utf8(head.clone()).unwrap();
        let headers: Vec<(String, String)> = text
            .lines()
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        let length = headers.iter().find(|h| h.0 == "content-length").map(|h| h.1.parse::<usize>().unwrap());
        let rest = &bytes[blank..];
        let pieces: Vec<&[u8]> = match length {
            Some(0) => Vec::new(),
            Some(length) => vec![&rest[..length]],
            None if file.ends_with("_raw.txt") => chunks(rest),
            None => events(rest),
        };
        let mut capture = Self {
            name: format!("{}/{file}", folder.file_name().unwrap().to_str().unwrap()),
            method: "GET",
            path: String::new(),
            content_type: None,
            request_body: Vec::new(),
            head,
            status: text[9..12].parse().unwrap(),
            headers,
            body: pieces.concat(),
            frames: Vec::new(),
            ends: Vec::new(),
        };
        for piece in pieces {
            capture.ends.push(capture.ends.last().unwrap_or(&0) + piece.len());
            capture.frames.push(match length {
                Some(_) => piece.to_vec(),
                None => [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat(),
            });
        }
        if length.is_none() {
            capture.ends.push(capture.body.len());
            capture.frames.push(b"0\r\n\r\n".to_vec());
        }
        capture.ask(file, &String::from_utf8_lossy(&bytes[..comment]));
        capture
    }

    /// The request of the curl command; a body that came from a file, or a command in words, becomes a short one of the
    /// same kind.
    fn ask(&mut self, file: &str, command: &str) {
        let words = words(command);
        let after = |flag: &str| {
            words.iter().position(|w| w == flag).and_then(|i| words.get(i + 1)).map(String::as_str)
        };
        let is_curl = words.get(1).is_some_and(|w| w == "curl");
        let path = words.iter().find_map(|w| {
            let rest = w.strip_prefix("http://")?;
            Some(rest[rest.find('/')?..].to_owned())
        });
        self.path = path.unwrap_or_else(|| {
            if file.contains("chat") { "/v1/chat/completions" } else { "/generate" }.to_owned()
        });
        let stand_in = if file.contains("_stream") { r#"{"stream":true}"# } else { "{}" };
        let body = match after("-d") {
            Some(text) if text.starts_with('@') => Some(stand_in),
            Some(text) => Some(text),
            None => (!is_curl).then_some(stand_in),
        };
        self.method = match (after("-X"), body) {
            (Some("PUT"), _) => "PUT",
            (_, Some(_)) => "POST",
            _ => "GET",
        };
        self.request_body = body.unwrap_or_default().as_bytes().to_vec();
        self.content_type = words
            .iter()
            .find_map(|w| w.strip_prefix("content-type: "))
            .map(str::to_owned)
            .or_else(|| body.map(|_| "application/json".to_owned()));
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str())
    }

    pub fn is_stream(&self) -> bool {
        self.header("content-type").is_some_and(|v| v.starts_with("text/event-stream"))
    }

    /// The data of each event but `[DONE]`, or the whole body, as JSON; what is not JSON is left out.
    pub fn values(&self) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.body);
        if !self.is_stream() {
            return serde_json::from_str(&text).into_iter().collect();
        }
        let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// The words of a command as bash's `%q` wrote them: a backslash before each special character, `''` for none.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut escaped) = (Vec::new(), String::new(), false);
    for c in command.trim_end_matches('\n').chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '\'' => {}
            ' ' => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

/// The data of each chunk.
fn chunks(mut raw: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    loop {
        let line = raw.windows(2).position(|w| w == b"\r\n").expect("a chunk size");
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return found;
        }
        found.push(&raw[line + 2..line + 2 + size]);
        raw = &raw[line + 4 + size..];
    }
}

/// Each event with its blank line. A line end that the capture's script put after the last one is none.
fn events(mut body: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\n\n") {
        found.push(&body[..end + 2]);
        body = &body[end + 2..];
    }
    assert!(body.trim_ascii().is_empty(), "an event without an end: {:?}", String::from_utf8_lossy(body));
    found
}
