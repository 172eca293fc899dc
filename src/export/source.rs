//! The second pass over a trace: its records, one after the other, with what the first pass knows of their clocks.
//!
//! Rule: as many records of each file as the first pass saw, so that a file that still grows is exported as it was;
//! it is the same file by its first and its last record, or that is an error: a path may lead elsewhere after a rotation.
//! Deliberately not here: what becomes of a record.

use super::ExportError;
use super::survey::Survey;
use crate::clock::ClockSnapshot;
use crate::trace::align::{Aligned, align};
use crate::trace::borders::Borders;
use crate::trace::reader::TraceReader;
use crate::trace::record::{Record, RequestRecord, RunRecord};

/// A request on the router's time axis.
#[derive(Debug)]
pub struct Placed<'a> {
    /// The run it is of, from 1, over all files.
    pub run: u64,
    /// The record.
    pub record: &'a RequestRecord,
    /// Its server's stamps on the router's axis.
    pub aligned: Aligned,
}

/// What stands in a trace.
#[derive(Debug)]
pub enum Item<'a> {
    /// Another run of the router begins; without its record where the trace has none.
    NewRun(Option<&'a RunRecord>),
    /// A request.
    Request(Placed<'a>),
    /// Any other record, and the latest reading of the router's two clocks before it.
    Other(&'a Record, Option<ClockSnapshot>),
}

/// Hands over every record of the surveyed files, in their order.
pub fn each(
    survey: &Survey,
    mut take: impl FnMut(Item<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let (mut run, mut borders, mut clock) = (0, Borders::default(), None);
    for file in &survey.files {
        let records = usize::try_from(file.records).unwrap_or(usize::MAX);
        let changed = || ExportError::Changed(file.path.clone());
        let mut read = 0;
        for record in TraceReader::open(&file.path)?.take(records) {
            let (_, record) = record?;
            if !file.holds(read, &record) {
                return Err(changed());
            }
            let is_first = read == 0;
            read += 1;
            let told = if let Record::Run(of) = &record { Some(of) } else { None };
            if borders.is_new_run(&record, is_first) {
                (run, clock) = (run + 1, None);
                take(Item::NewRun(told))?;
            }
            match (&record, told) {
                (_, Some(of)) => clock = Some(of.clock),
                (Record::Clock(read), _) => clock = Some(read.snapshot()),
                _ => {}
            }
            match (&record, survey.runs.get(run - 1)) {
                (Record::Request(record), Some(known)) => {
                    let aligned = align(record, &known.clocks, &known.offsets);
                    take(Item::Request(Placed { run: run as u64, record, aligned }))?;
                }
                _ => take(Item::Other(&record, clock))?,
            }
        }
        if read < file.records {
            return Err(changed());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_file_that_was_rotated_between_the_passes_is_an_error_and_one_that_grew_is_not() {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces/two_workers.jsonl");
        let text = std::fs::read_to_string(whole).unwrap();
        let path = std::env::temp_dir().join(format!("milepost-source-{}.jsonl", std::process::id()));
        let half = text.match_indices('\n').nth(text.lines().count() / 2).unwrap().0 + 1;
        std::fs::write(&path, &text[..half]).unwrap();
        let survey = Survey::of(std::slice::from_ref(&path)).unwrap();
        std::fs::write(&path, &text).unwrap();
        let mut items = 0;
        each(&survey, |item| {
            items += u64::from(!matches!(item, Item::NewRun(_)));
            Ok(())
        })
        .unwrap();
        assert_eq!(items, survey.files[0].records);
        for rotated in [&text[half..], ""] {
            std::fs::write(&path, rotated).unwrap();
            let error = each(&survey, |_| Ok(())).unwrap_err();
            assert!(matches!(error, ExportError::Changed(_)), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
