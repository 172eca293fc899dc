//! One line of a public trace → what it says.
//!
//! Rule: a line that does not say what its format must is an error in words. Deliberately not here: lines and files.

use serde::Deserialize;

use super::columns::{Columns, civil_ns, whole};
use super::{TraceFormat, TraceRow};

/// Reads the lines of one file, in their order.
pub(super) struct Rows {
    format: TraceFormat,
    /// Of a CSV: where its columns are.
    header: Option<Columns>,
    /// Tokens of the blocks so far.
    block_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Mooncake {
    /// Milliseconds.
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    #[serde(default)]
    hash_ids: Vec<u64>,
    /// Where a block is not as long as in Mooncake's own traces (`milepost trace export --block-tokens`).
    #[serde(default)]
    block_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Bailian {
    chat_id: i64,
    /// Negative: the first of its chat.
    parent_chat_id: i64,
    /// Seconds.
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

impl Rows {
    pub(super) fn new(format: TraceFormat) -> Self {
        Self { format, header: None, block_tokens: None }
    }

    /// `None` for a line that is no request.
    pub(super) fn read(&mut self, line: &str) -> Result<Option<TraceRow>, String> {
        match self.format {
            TraceFormat::Mooncake => {
                let row: Mooncake = json(line)?;
                let block_tokens = self.block(row.block_tokens)?;
                Ok(Some(TraceRow {
                    block_tokens,
                    at_ns: nanoseconds("timestamp", row.timestamp, 1e6)?,
                    input_tokens: row.input_length,
                    output_tokens: row.output_length,
                    ids: row.hash_ids,
                    ..TraceRow::default()
                }))
            }
            TraceFormat::Bailian => {
                let row: Bailian = json(line)?;
                Ok(Some(TraceRow {
                    at_ns: nanoseconds("timestamp", row.timestamp, 1e9)?,
                    input_tokens: row.input_length,
                    output_tokens: row.output_length,
                    ids: row.hash_ids,
                    chat: Some((row.chat_id, row.parent_chat_id)),
                    ..TraceRow::default()
                }))
            }
            TraceFormat::Azure => self.of_csv(line, ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]),
            TraceFormat::BurstGpt => self.of_csv(line, ["Timestamp", "Request tokens", "Response tokens"]),
            // They are no files of lines of one kind.
            TraceFormat::Milepost | TraceFormat::Weka(_) => Ok(None),
        }
    }

    /// Ids of blocks of two lengths cannot be compared.
    fn block(&mut self, told: Option<u32>) -> Result<Option<u32>, String> {
        let tokens = told.unwrap_or(self.format.block_tokens());
        if tokens == 0 {
            return Err("block_tokens: expected at least 1, got 0".to_owned());
        }
        let before = *self.block_tokens.get_or_insert(tokens);
        if before != tokens {
            return Err(format!("block_tokens: expected {before} as in the lines above, got {tokens}"));
        }
        Ok(told)
    }

    fn of_csv(&mut self, line: &str, names: [&str; 3]) -> Result<Option<TraceRow>, String> {
        let Some(header) = &self.header else {
            self.header = Some(Columns::find(line, names)?);
            return Ok(None);
        };
        let [at, input, output] = header.cells(line)?;
        let at_ns = match self.format {
            TraceFormat::Azure => civil_ns(at)?,
            _ => at
                .parse::<f64>()
                .map_err(|_| format!("{}: expected seconds, got {at:?}", names[0]))
                .and_then(|seconds| nanoseconds(names[0], seconds, 1e9))?,
        };
        Ok(Some(TraceRow {
            at_ns,
            input_tokens: whole(names[1], input)?,
            output_tokens: whole(names[2], output)?,
            ..TraceRow::default()
        }))
    }
}

fn json<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|e| e.to_string())
}

/// At most 292 years, so that differences fit.
fn nanoseconds(name: &str, value: f64, unit_ns: f64) -> Result<u64, String> {
    let ns = value * unit_ns;
    if (0.0..9.2e18).contains(&ns) {
        Ok(ns.round() as u64)
    } else {
        Err(format!("{name}: expected a time of at least 0, got {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_says_the_same() {
        let cases = [
            (
                TraceFormat::Mooncake,
                "",
                r#"{"timestamp":1500,"input_length":9,"output_length":2,"hash_ids":[7]}"#,
            ),
            (
                TraceFormat::Bailian,
                "",
                r#"{"chat_id":3,"parent_chat_id":-1,"timestamp":1.5,"input_length":9,"output_length":2,"type":"text","turn":1,"hash_ids":[7]}"#,
            ),
            (
                TraceFormat::BurstGpt,
                "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
                "1.5,s,3,ChatGPT,9,2,11,Conversation log",
            ),
            (
                TraceFormat::BurstGpt,
                "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
                "1.5,GPT-4,9,2,11,API log",
            ),
        ];
        for (format, header, line) in cases {
            let mut rows = Rows::new(format);
            if !header.is_empty() {
                assert_eq!(rows.read(header).unwrap(), None);
            }
            let row = rows.read(line).unwrap().unwrap();
            assert_eq!((row.at_ns, row.input_tokens, row.output_tokens), (1_500_000_000, 9, 2), "{format:?}");
            assert_eq!(row.ids.is_empty(), format == TraceFormat::BurstGpt);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |format, lines: &[&str]| {
            let mut rows = Rows::new(format);
            lines.iter().find_map(|line| rows.read(line).err()).unwrap()
        };
        assert!(error(TraceFormat::Mooncake, &["{\"timestamp\":1}"]).contains("input_length"));
        assert!(
            error(TraceFormat::Mooncake, &["{\"timestamp\":-1,\"input_length\":1,\"output_length\":1}"])
                .contains("at least 0")
        );
        let sized = |more: &str| {
            format!(r#"{{"timestamp":1,"input_length":9,"output_length":2,"hash_ids":[7]{more}}}"#)
        };
        let (usual, short) = (sized(""), sized(r#","block_tokens":64"#));
        assert!(error(TraceFormat::Mooncake, &[&usual, &short]).contains("expected 512"));
        assert!(error(TraceFormat::Mooncake, &[&sized(r#","block_tokens":0"#)]).contains("at least 1"));
        assert!(error(TraceFormat::Azure, &["a,b,c"]).contains("TIMESTAMP"));
        let header = "TIMESTAMP,ContextTokens,GeneratedTokens";
        assert!(error(TraceFormat::Azure, &[header, "2023-11-16 18:17:03.9,x,1"]).contains("ContextTokens"));
        assert!(error(TraceFormat::Azure, &[header, "yesterday,1,1"]).contains("yesterday"));
        assert!(error(TraceFormat::Azure, &[header, "1"]).contains("cells"));
    }
}
