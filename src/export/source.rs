//! The second pass over a trace: its records, one after the other, with what the first pass knows of their clocks.
//!
//! Rule: as many records of each file as the first pass saw, so that a file that still grows is exported as it was.
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
        for (place, record) in TraceReader::open(&file.path)?.take(records).enumerate() {
            let (_, record) = record?;
            let told = if let Record::Run(of) = &record { Some(of) } else { None };
            if borders.is_new_run(&record, place == 0) {
                (run, clock) = (run + 1, None);
                take(Item::NewRun(told))?;
            }
            match (&record, told) {
                (_, Some(of)) => clock = Some(of.clock),
                (Record::Clock(read), _) => clock = Some(*read),
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
    }
    Ok(())
}
