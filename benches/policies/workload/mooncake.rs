//! A recorded conversation service: the first requests of Mooncake's FAST'25 conversation trace (`benches/data/README.md`).
//!
//! Rule: lengths, blocks and order are the trace's. Its arrivals come in ticks of about three seconds, which no client does, so
//! each is put at a drawn moment between its tick and the next.

use super::{Dice, Draft};
use crate::prompt::Piece;

pub const ABOUT: &str = "the first requests of Mooncake's FAST'25 conversation trace (mean prompt 13,300 tokens, answer 347), \
    each arrival at a drawn moment within its tick of 3 s, faster than recorded by the factor that makes the load";

/// See `benches/data/README.md`.
const TRACE: &str = include_str!("../../data/mooncake_conversation.csv");
const BLOCK_TOKENS: u32 = 512;
/// The longest answer recorded has 2,000.
const MAX_NEW_TOKENS: u32 = 2_048;
/// Names of blocks are far from names that are drawn.
const NAMES: u64 = 0x6d6f_6f6e << 32;

/// One line of the file.
struct Line {
    at_ms: u64,
    prompt_tokens: u32,
    output_tokens: u32,
    blocks: Vec<u64>,
}

pub(super) fn draw(dice: &mut Dice, requests: usize) -> Result<Vec<Draft>, String> {
    let lines = TRACE.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).take(requests);
    let lines: Result<Vec<Line>, String> = lines
        .map(|(n, line)| {
            read(line).ok_or_else(|| format!("mooncake_conversation.csv:{}: not a request", n + 1))
        })
        .collect();
    let lines = lines?;
    let mut arrivals = spread(&lines, dice);
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let span = arrivals.last().map_or(1.0, |(at_ms, _)| *at_ms);
    let unit_ms = span / lines.len().max(1) as f64;
    Ok(arrivals.into_iter().map(|(at_ms, line)| draft(&lines[line], at_ms / unit_ms)).collect())
}

fn draft(line: &Line, at: f64) -> Draft {
    let last = line.blocks.len() - 1;
    let tokens =
        |block| if block == last { line.prompt_tokens - BLOCK_TOKENS * last as u32 } else { BLOCK_TOKENS };
    let piece = |(block, id): (usize, &u64)| Piece::Text { id: NAMES + id, tokens: tokens(block) };
    Draft {
        pieces: line.blocks.iter().enumerate().map(piece).collect(),
        output_tokens: line.output_tokens,
        max_new_tokens: MAX_NEW_TOKENS,
        key: line.blocks.get(1).or(line.blocks.first()).copied().unwrap_or_default(),
        at: Some(at),
        think_ns: None,
    }
}

/// A moment for each line, between its tick and the next.
fn spread(lines: &[Line], dice: &mut Dice) -> Vec<(f64, usize)> {
    let mut ticks: Vec<u64> = lines.iter().map(|line| line.at_ms).collect();
    ticks.dedup();
    let usual_ms = 3_000;
    let moment = |(place, line): (usize, &Line)| {
        let next = ticks.get(ticks.partition_point(|tick| *tick <= line.at_ms));
        let length_ms = next.map_or(usual_ms, |next| next - line.at_ms);
        (line.at_ms as f64 + dice.share() * length_ms as f64, place)
    };
    lines.iter().enumerate().map(moment).collect()
}

/// `milliseconds,prompt tokens,answer tokens,blocks`, runs of blocks as `first-last`.
fn read(line: &str) -> Option<Line> {
    let mut fields = line.split(',');
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (at_ms, prompt, output) = (number()?, number()?, number()?);
    let mut blocks = Vec::new();
    for run in fields.next()?.split(' ') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        blocks.extend(first.parse::<u64>().ok()?..=last.parse().ok()?);
    }
    let fits = prompt.div_ceil(u64::from(BLOCK_TOKENS)) == blocks.len() as u64;
    let line = Line { at_ms, prompt_tokens: prompt as u32, output_tokens: output.max(1) as u32, blocks };
    fits.then_some(line)
}
