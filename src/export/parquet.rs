//! A trace as Parquet: the table of CSV with typed columns, compressed.
//!
//! Why the `parquet` crate without Arrow: its column writer takes slices of values, which is all that is needed, and Arrow would
//! be seven more crates. zstd, not snappy: a quarter smaller (149 bytes a request for 198, both by pyarrow), and every reader has
//! both. Moments are delta-coded (they grow and seldom repeat), the rest goes through a dictionary. Rule: rows are held up to a
//! row group's limit and no longer. Counts are signed 64-bit numbers, so that a difference of two is one too. Deliberately not
//! here: which columns there are (`columns`).

use std::io::{self, Write};
use std::mem::take;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::ExportError;
use super::columns::{Cell, Column, Columns};
use super::source::{Item, each};
use super::survey::Survey;
use crate::buffer::Buffer;
use crate::trace::leaves::LeafKind;
use crate::trace::schema::SCHEMA;

/// Most rows of a row group: readers work through a file by these.
const GROUP_ROWS: usize = 65_536;
/// Most bytes of text held for a row group.
const GROUP_TEXT_BYTES: usize = 64 << 20;

impl From<ParquetError> for ExportError {
    fn from(error: ParquetError) -> Self {
        Self::Write(io::Error::other(error))
    }
}

/// Writes the requests of a trace; returns how many.
pub fn write(survey: &Survey, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let columns = Columns::of_requests();
    let mut group = Group::of(columns.all());
    let properties = Arc::new(properties(columns.all()));
    let mut file = SerializedFileWriter::new(out, schema(columns.all())?, properties)?;
    let (mut rows, mut text) = (0, Buffer::default());
    each(survey, |item| {
        let Item::Request(placed) = item else { return Ok(()) };
        group.add(&columns.row(&placed, &mut text)?);
        rows += 1;
        if group.is_full() {
            group.write(&mut file)?;
        }
        Ok(())
    })?;
    if group.rows > 0 {
        group.write(&mut file)?;
    }
    file.close()?;
    Ok(rows)
}

/// One group of optional columns.
fn schema(columns: &[Column]) -> Result<TypePtr, ParquetError> {
    let fields = columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            LeafKind::Integer => (Physical::INT64, None),
            LeafKind::Number => (Physical::DOUBLE, None),
            LeafKind::Truth => (Physical::BOOLEAN, None),
            LeafKind::Text | LeafKind::List => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(&column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        field.build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Type::group_type_builder("milepost_request").with_fields(fields).build()?))
}

fn properties(columns: &[Column]) -> WriterProperties {
    let docs: serde_json::Map<String, serde_json::Value> =
        columns.iter().map(|column| (column.name.clone(), column.doc.clone().into())).collect();
    let about = vec![
        KeyValue::new("milepost.schema".to_owned(), SCHEMA.to_string()),
        KeyValue::new("milepost.columns".to_owned(), serde_json::Value::Object(docs).to_string()),
    ];
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("milepost ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(about));
    let moments = columns.iter().filter(|c| c.kind == LeafKind::Integer && c.name.ends_with("_ns"));
    for name in moments.map(|column| ColumnPath::from(column.name.as_str())) {
        builder = builder
            .set_column_dictionary_enabled(name.clone(), false)
            .set_column_encoding(name, Encoding::DELTA_BINARY_PACKED);
    }
    builder.build()
}

/// Rows that wait for their group to be full, column by column.
struct Group {
    columns: Vec<Held>,
    rows: usize,
    text_bytes: usize,
}

/// The values of a column that are there, and which rows have one (1) and which have none (0).
struct Held {
    values: Values,
    levels: Vec<i16>,
}

enum Values {
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Truths(Vec<bool>),
    /// Texts one after the other, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
}

impl Group {
    fn of(columns: &[Column]) -> Self {
        let held = columns.iter().map(|column| {
            let values = match column.kind {
                LeafKind::Integer => Values::Integers(Vec::new()),
                LeafKind::Number => Values::Numbers(Vec::new()),
                LeafKind::Truth => Values::Truths(Vec::new()),
                LeafKind::Text | LeafKind::List => Values::Texts(Vec::new(), Vec::new()),
            };
            Held { values, levels: Vec::new() }
        });
        Self { columns: held.collect(), rows: 0, text_bytes: 0 }
    }

    fn add(&mut self, row: &[Cell<'_>]) {
        for (held, cell) in self.columns.iter_mut().zip(row) {
            let is_there = match (&mut held.values, cell) {
                (Values::Integers(values), Cell::Integer(n)) => push(values, *n),
                (Values::Numbers(values), Cell::Number(n)) => push(values, *n),
                (Values::Truths(values), Cell::Truth(truth)) => push(values, *truth),
                (Values::Texts(bytes, ends), Cell::Text(text)) => {
                    bytes.extend_from_slice(text.as_bytes());
                    self.text_bytes += text.len();
                    push(ends, bytes.len())
                }
                _ => false,
            };
            held.levels.push(i16::from(is_there));
        }
        self.rows += 1;
    }

    fn is_full(&self) -> bool {
        self.rows >= GROUP_ROWS || self.text_bytes >= GROUP_TEXT_BYTES
    }

    fn write<W: Write + Send>(&mut self, file: &mut SerializedFileWriter<W>) -> Result<(), ExportError> {
        let mut group = file.next_row_group()?;
        for held in &mut self.columns {
            let Some(mut writer) = group.next_column()? else { break };
            held.write(&mut writer)?;
            writer.close()?;
        }
        group.close()?;
        (self.rows, self.text_bytes) = (0, 0);
        Ok(())
    }
}

fn push<T>(values: &mut Vec<T>, value: T) -> bool {
    values.push(value);
    true
}

impl Held {
    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = Some(self.levels.as_slice());
        match (&mut self.values, writer.untyped()) {
            (Values::Integers(values), ColumnWriter::Int64ColumnWriter(column)) => {
                column.write_batch(values, levels, None)?;
                values.clear();
            }
            (Values::Numbers(values), ColumnWriter::DoubleColumnWriter(column)) => {
                column.write_batch(values, levels, None)?;
                values.clear();
            }
            (Values::Truths(values), ColumnWriter::BoolColumnWriter(column)) => {
                column.write_batch(values, levels, None)?;
                values.clear();
            }
            (Values::Texts(bytes, ends), ColumnWriter::ByteArrayColumnWriter(column)) => {
                let bytes = Bytes::from(take(bytes));
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let texts: Vec<ByteArray> =
                    starts.zip(ends.iter()).map(|(start, end)| bytes.slice(start..*end).into()).collect();
                column.write_batch(&texts, levels, None)?;
                ends.clear();
            }
            _ => return Err(ParquetError::General("a column has values of another type".to_owned())),
        }
        self.levels.clear();
        Ok(())
    }
}
