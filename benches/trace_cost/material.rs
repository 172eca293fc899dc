//! Records to be written: those of a real run again and again, each with a number, a time and a prompt of its own.
//!
//! Rule: request follows request at the pace of the run they are from, and the stamps of router and server keep their distances;
//! the first half of a prompt's blocks is shared by all that repeat it, the rest is its own. Deliberately not here: where the
//! records come from (`records`), writing them (`make`).

use milepost::clock::ClockSnapshot;
use milepost::trace::prompt::PromptBlocks;
use milepost::trace::record::RequestRecord;
use milepost::wire::meta_info::ServerStamps;

/// The `n`th record made of these, `gap_ns` after the one before it; the first arrives at `from`.
pub fn nth(models: &[RequestRecord], n: u64, gap_ns: u64, from: ClockSnapshot) -> RequestRecord {
    let (turn, model) = (n / models.len() as u64, &models[(n % models.len() as u64) as usize]);
    let (mono_ns, unix_ns) = (from.mono_ns + n * gap_ns, from.unix_ns + n * gap_ns);
    let mut record = RequestRecord {
        seq: n + 1,
        request_id: format!(
            "mp-{:013x}-{:06}",
            milepost_policies::name_hash(&n.to_le_bytes()) >> 12,
            n % 1_000_000
        ),
        arrival_mono_ns: mono_ns,
        arrival_unix_ns: unix_ns,
        ..model.clone()
    };
    let moved = |to: u64, was: u64| (i128::from(to) - i128::from(was)) as f64 / 1e9;
    move_stamps(
        &mut record.server,
        moved(unix_ns, model.arrival_unix_ns),
        moved(mono_ns, model.arrival_mono_ns),
    );
    if let Some(PromptBlocks::Keyed(hashes)) = &record.prompt_hashes {
        let mut hashes = hashes.as_slice().to_vec();
        let own = hashes.len() / 2;
        hashes[own..].iter_mut().for_each(|hash| *hash ^= turn.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        record.prompt_hashes = Some(PromptBlocks::Keyed(hashes.as_slice().into()));
    }
    record
}

/// Moves what is a moment; what is a duration stays.
fn move_stamps(stamps: &mut ServerStamps, wall_s: f64, mono_s: f64) {
    let wall = [
        &mut stamps.server_created_time,
        &mut stamps.server_first_token_time,
        &mut stamps.request_received_ts,
        &mut stamps.request_sent_to_scheduler_ts,
        &mut stamps.api_server_dispatch_finish_ts,
        &mut stamps.forward_entry_time,
        &mut stamps.prefill_finished_ts,
        &mut stamps.prefill_finished_time,
        &mut stamps.response_sent_to_client_ts,
        &mut stamps.decode_finished_ts,
        &mut stamps.request_finished_ts,
    ];
    wall.into_iter().flatten().for_each(|at_s| *at_s += wall_s);
    let mono = [&mut stamps.queue_time_start, &mut stamps.queue_time_end];
    mono.into_iter().flatten().for_each(|at_s| *at_s += mono_s);
}
