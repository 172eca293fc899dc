//! What an engine will see of a prompt, as far as a body tells: the text under which it is looked for in the engines' caches.
//!
//! No template is applied: that would take the model's own, and all that counts is that two prompts have the same engine text
//! as far as an engine will find them alike. So: what gives a prompt a cache of its own (`lora_path`, `cache_salt`,
//! `extra_key`), then the tools, which templates put into the system part, then each message with its role, the parts of its
//! content in order, and its tool calls. An image is a sample of its bytes. `reasoning_content` is not there, as most templates
//! leave out that of earlier turns. Members stand in the order of the body: a client that orders them otherwise in its next
//! turn loses a match, no more. Token ids are four bytes each.
//!
//! Rule: what nobody asked for is not built. Deliberately not here: reading JSON (`prompt`, `call`), the routing text.

/// Begins a message.
const MESSAGE: u8 = 0x1e;
/// Ends a piece, so that where it ends counts.
const END: u8 = 0x1f;
/// What is no text and longer than this is sampled.
const MAX_RAW_BYTES: usize = 512;
/// Bytes of each of the three samples: beginning, middle and end.
const SAMPLE_BYTES: usize = 128;

/// Engine text in the making; nothing at all where it is not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendering(Option<Vec<u8>>);

impl Rendering {
    /// An empty one, which is kept or not.
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(Vec::new))
    }

    /// A message begins.
    pub(super) fn begin(&mut self) {
        if let Some(out) = &mut self.0 {
            out.push(MESSAGE);
        }
    }

    /// A piece of text.
    pub(super) fn text(&mut self, text: &[u8]) {
        if let Some(out) = &mut self.0 {
            out.extend_from_slice(text);
            out.push(END);
        }
    }

    /// Something else, as it stands in the body: all of it if it is short, else its length and samples.
    pub(super) fn raw(&mut self, raw: &[u8]) {
        if raw.len() <= MAX_RAW_BYTES {
            return self.text(raw);
        }
        if let Some(out) = &mut self.0 {
            out.extend_from_slice(raw.len().to_string().as_bytes());
            for start in [0, raw.len() / 2, raw.len() - SAMPLE_BYTES] {
                out.extend_from_slice(&raw[start..start + SAMPLE_BYTES]);
            }
            out.push(END);
        }
    }

    /// The same behind `head`, which the engine sees first.
    pub(super) fn after(self, head: Option<&[u8]>) -> Self {
        match (self.0, head) {
            (Some(out), Some(head)) => Self(Some([head, &[END][..], &out].concat())),
            (out, _) => Self(out),
        }
    }

    /// Nothing came, or nothing was wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }

    /// What there is; `None` if nothing was wanted or nothing came.
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        self.0.filter(|out| !out.is_empty())
    }
}

/// Engine text behind what gives it a cache of its own, and behind the tools.
pub(super) fn behind(own_cache: Rendering, tools: &[u8], text: Vec<u8>) -> Vec<u8> {
    let mut head = own_cache.into_bytes().unwrap_or_default();
    if !tools.is_empty() {
        head.extend_from_slice(tools);
        head.push(END);
    }
    if head.is_empty() {
        return text;
    }
    head.extend_from_slice(&text);
    head
}

/// Token ids that are written as decimals with a space between, as four bytes each.
pub(super) fn ids(decimals: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(decimals.len());
    let mut id = 0u32;
    for &byte in decimals {
        if byte == b' ' {
            out.extend_from_slice(&id.to_le_bytes());
            id = 0;
        } else {
            // What is no id of any model wraps, and is as good a name as another.
            id = id.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0')));
        }
    }
    out.extend_from_slice(&id.to_le_bytes());
    out
}
