//! Tests of the table of a request.

use super::*;
use crate::trace::record::{Record, RequestRecord};

fn filled() -> RequestRecord {
    let records = crate::trace::schema::filled_records();
    let request = records.into_iter().find_map(|record| match record {
        Record::Request(request) => Some(*request),
        _ => None,
    });
    request.expect("a request with every field")
}

fn placed(record: &RequestRecord) -> Placed<'_> {
    Placed { run: 1, record, aligned: Aligned::default() }
}

#[test]
fn every_field_of_a_record_stands_in_a_column_of_its_own() {
    let table = Columns::of_requests();
    let record = filled();
    let placed = placed(&record);
    let mut text = Buffer::default();
    let row = table.row(&placed, &mut text).expect("no field is without a column");
    assert_eq!(row.len(), table.all().len());
    let fields = &row[..row.len() - DERIVED.len()];
    let empty: Vec<&str> = table
        .all()
        .iter()
        .zip(fields)
        .filter(|(_, cell)| **cell == Cell::Absent)
        .map(|(c, _)| c.name.as_str())
        .collect();
    assert!(empty.is_empty(), "a record with every field leaves these columns empty: {empty:?}");
    let mut names: Vec<&str> = table.all().iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.all().len(), "no two columns have one name");
}

#[test]
fn cells_have_the_kind_of_their_column() {
    let table = Columns::of_requests();
    let record = filled();
    let placed = placed(&record);
    let mut text = Buffer::default();
    let row = table.row(&placed, &mut text).unwrap();
    for (column, cell) in table.all().iter().zip(&row) {
        let fits = match cell {
            Cell::Absent => true,
            Cell::Integer(_) => column.kind == LeafKind::Integer,
            Cell::Number(_) => column.kind == LeafKind::Number,
            Cell::Truth(_) => column.kind == LeafKind::Truth,
            Cell::Text(_) => matches!(column.kind, LeafKind::Text | LeafKind::List),
        };
        assert!(fits, "{}: {cell:?}", column.name);
    }
}

#[test]
fn what_is_absent_or_escaped_or_too_large_is_told_as_it_is() {
    let table = Columns::of_requests();
    let record = RequestRecord {
        request_id: "a\"b\\c\n\u{e9}".to_owned(),
        max_new_tokens: Some(u64::MAX),
        ..RequestRecord::default()
    };
    let placed = placed(&record);
    let mut text = Buffer::default();
    let row = table.row(&placed, &mut text).unwrap();
    let of = |name: &str| {
        let at = table.all().iter().position(|column| column.name == name).expect(name);
        row[at].clone()
    };
    assert_eq!(of("request_id"), Cell::Text("a\"b\\c\n\u{e9}".into()));
    assert_eq!(of("max_new_tokens"), Cell::Integer(i64::MAX));
    assert_eq!(
        (of("status"), of("decision_reason"), of("missing")),
        (Cell::Absent, Cell::Absent, Cell::Absent)
    );
    assert_eq!(
        (of("seq"), of("run"), of("stream")),
        (Cell::Integer(0), Cell::Integer(1), Cell::Truth(false))
    );
}
