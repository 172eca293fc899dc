//! Parquet, read back by the rows of the `parquet` crate's own reader and held against the CSV's columns and the records.

use std::fs::File;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::{export, requests};
use crate::process::Folder;

#[test]
fn every_request_is_a_row_with_typed_columns() {
    let folder = Folder::new();
    export(&folder, "parquet", "t.parquet");
    export(&folder, "csv", "t.csv");
    let reader = SerializedFileReader::new(File::open(folder.0.join("t.parquet")).unwrap()).unwrap();
    let about = reader.metadata().file_metadata();
    let names: Vec<&str> = about.schema().get_fields().iter().map(|field| field.name()).collect();
    let csv = folder.read("t.csv");
    assert_eq!(names.join(","), csv.lines().next().unwrap(), "the columns of the CSV");
    let docs = about.key_value_metadata().unwrap().iter().find(|kv| kv.key == "milepost.columns").unwrap();
    assert!(docs.value.as_ref().unwrap().contains("nanoseconds after arrival"));

    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let requests = requests();
    assert_eq!(rows.len(), requests.len());
    for (row, record) in rows.iter().zip(&requests) {
        let cell = |name: &str| row.get_column_iter().find(|(column, _)| *column == name).unwrap().1.clone();
        let text = |name: &str| record[name].as_str().map_or(Field::Null, |text| Field::Str(text.to_owned()));
        let integer = |value: &serde_json::Value| value.as_i64().map_or(Field::Null, Field::Long);
        assert_eq!(cell("seq"), integer(&record["seq"]));
        assert_eq!(cell("arrival_unix_ns"), integer(&record["arrival_unix_ns"]));
        assert_eq!(cell("first_token_ns"), integer(&record["first_token_ns"]));
        assert_eq!(cell("prompt_tokens"), integer(&record["tokens"]["prompt_tokens"]));
        assert_eq!(cell("stream"), Field::Bool(record["stream"].as_bool().unwrap()));
        assert_eq!((cell("outcome"), cell("worker")), (text("outcome"), text("worker")));
        assert_eq!((cell("phase"), cell("request_id")), (text("phase"), text("request_id")));
        let received = record["server"]["request_received_ts"].as_f64();
        assert_eq!(cell("server_request_received_ts"), received.map_or(Field::Null, Field::Double));
    }
}
