//! Tells a client what the router answers itself.
//!
//! Rule: one head, one body whose end the client can find; of an answer to HEAD the head alone. Deliberately not here: what
//! is answered (`admin`, `journey`), a worker's answer (`relay`).

use http::Response;
use http::header::CONTENT_LENGTH;

use super::body::AnswerBody;
use super::visit::{Interrupt, Visit};
use crate::admin::trace_tail::FileBody;
use crate::buffer::Buffer;
use crate::http1::coding::Coding;
use crate::http1::{Outgoing, lines};

/// Writes an answer; true if the connection can carry another request.
pub async fn send(visit: &mut Visit, response: Response<AnswerBody>) -> bool {
    visit.last_words();
    let (head, body) = response.into_parts();
    let manner = visit.manner();
    let coding = match (&body, manner.is_http_11) {
        (AnswerBody::Own(_), _) => Coding::Length,
        (AnswerBody::File(_), true) => Coding::OwnChunks,
        (AnswerBody::File(_), false) => Coding::UntilClose,
    };
    let mut out = Buffer::with_room(512);
    let reason = head.status.canonical_reason().unwrap_or_default();
    lines::status_line(&mut out, manner.is_http_11, head.status.as_u16(), reason.as_bytes());
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        lines::field(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    let length = if let AnswerBody::Own(bytes) = &body { Some(bytes.len() as u64) } else { None };
    let keeps_alive = manner.keeps_alive && coding != Coding::UntilClose;
    lines::framing(&mut out, coding, length, keeps_alive, manner.is_http_11);
    let written = match body {
        AnswerBody::Own(bytes) => {
            let bytes = if manner.to_head { &[][..] } else { &bytes[..] };
            visit.write(Outgoing::new([out.as_bytes(), bytes])).await
        }
        AnswerBody::File(_) if manner.to_head => visit.write(Outgoing::new([out.as_bytes()])).await,
        AnswerBody::File(file) => send_file(visit, file, coding, out).await,
    };
    written.is_ok() && keeps_alive
}

async fn send_file(
    visit: &mut Visit,
    mut file: FileBody,
    coding: Coding,
    mut out: Buffer,
) -> Result<(), Interrupt> {
    while let Some(chunk) = visit.watch(file.next()).await? {
        // A file that cannot be read on is an answer cut short: the client must not take the part for the whole.
        let Ok(chunk) = chunk else {
            return Err(Interrupt::Gone);
        };
        coding.push(&mut out, &chunk);
        visit.write(Outgoing::new([out.as_bytes()])).await?;
        out.clear();
    }
    out.push(coding.end());
    visit.write(Outgoing::new([out.as_bytes()])).await
}
