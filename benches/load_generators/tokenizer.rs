//! A tokenizer that takes a byte for a token, written where tools that insist on one can load it.
//!
//! Rule: made here, so that nothing is downloaded; what it encodes it decodes, which tools that make prompts of a given length
//! need. Deliberately not here: a real vocabulary, whose cost would be the tools' alone and is paid before the first arrival.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

/// The last of the 256 bytes, and one more: the end of a text.
const END: u32 = 256;

/// Writes it into a new folder.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut vocabulary: serde_json::Map<_, _> =
        letters().enumerate().map(|(id, letter)| (letter.to_string(), json!(id))).collect();
    vocabulary.insert("</s>".to_owned(), json!(END));
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{
            "id": END, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "</s>",
        "model_max_length": 32_768, "clean_up_tokenization_spaces": false,
        "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())?;
    fs::write(folder.join("tokenizer_config.json"), config.to_string())?;
    // By this file a folder is taken for a model's.
    fs::write(folder.join("config.json"), json!({"model_type": "gpt2"}).to_string())
}

/// The letter of each byte in a byte-level vocabulary: itself where it is printed, else one from 256 on (GPT-2's table).
fn letters() -> impl Iterator<Item = char> {
    let printed = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    (0..256_u32).filter_map(move |byte| {
        let rest = (0..byte).filter(|b| !printed(b)).count() as u32;
        char::from_u32(if printed(&byte) { byte } else { 256 + rest })
    })
}
