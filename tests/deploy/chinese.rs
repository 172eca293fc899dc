//! `README.zh-CN.md` beside the English pages: every heading there has one here or stands in the list of what is English only.
//!
//! Rule: a heading that is added in English, a column that is renamed and a command that changes fail here, with what to do.
//! Deliberately not here: whether a translation says the same.

use std::collections::BTreeSet;

use milepost::report::csv::COLUMNS;
use milepost::trace::align;

use crate::read;

const PAGE: &str = "README.zh-CN.md";

/// Pages that are mirrored, and the deepest heading that counts.
const MIRRORED: [(&str, usize); 2] = [("README.md", 3), ("docs/troubleshooting.md", 2)];

/// Columns that the page must explain: the inherited ones.
const INHERITED: usize = 26;

/// `page: heading` for each heading of a page, its title apart; what looks like one in a block of code is none.
fn headings(page: &str, deepest: usize) -> Vec<String> {
    let text = read(page);
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        let level = line.chars().take_while(|c| *c == '#').count();
        if !in_code && (2..=deepest).contains(&level) {
            found.push(format!("{page}: {}", line[level..].trim()));
        }
    }
    found
}

/// `page: heading` of each mark below a Chinese heading, and of each line of the list.
fn answered(text: &str) -> Vec<String> {
    let marks = text.lines().filter_map(|l| l.strip_prefix("<!-- en: ")?.strip_suffix(" -->"));
    let (_, list) = text.split_once("<!-- english only:").expect("the list of what is English only");
    let list = list.split_once("<!-- /english only -->").expect("its end").0;
    let listed = list.lines().filter_map(|line| line.strip_prefix("- "));
    marks.chain(listed).map(str::to_owned).collect()
}

/// What has to be done, one line for each difference.
fn differences(english: &[String], chinese: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for heading in english.iter().filter(|heading| !chinese.contains(heading)) {
        out.push(format!(
            "\"{heading}\" has no place in {PAGE}: translate it under a heading with the line `<!-- en: {heading} -->` \
             below it, or add the line `- {heading}` to the list of what is English only"
        ));
    }
    for heading in chinese.iter().filter(|heading| !english.contains(heading)) {
        out.push(format!("{PAGE} mirrors \"{heading}\", which is there no more: rename or remove it"));
    }
    let mut seen = BTreeSet::new();
    let twice = chinese.iter().filter(|heading| !seen.insert(*heading));
    out.extend(twice.map(|heading| format!("{PAGE} mirrors \"{heading}\" twice")));
    out
}

#[test]
fn every_english_heading_has_its_place_in_the_chinese_page() {
    let english: Vec<String> = MIRRORED.iter().flat_map(|(page, deepest)| headings(page, *deepest)).collect();
    assert!(english.len() > 20, "{english:?}");
    let differences = differences(&english, &answered(&read(PAGE)));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn commands_are_the_ones_of_the_english_pages() {
    let english: String = MIRRORED.iter().map(|(page, _)| read(page)).collect();
    let page = read(PAGE);
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let lines: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(lines.len() > 15);
    for line in lines {
        let there = english.lines().any(|theirs| theirs == line);
        assert!(there, "{PAGE} has a command that the English pages have not: {line}");
    }
}

#[test]
fn every_inherited_column_is_explained_and_every_explained_column_exists() {
    let page = read(PAGE);
    let section = page.split_once("<!-- en: README.md: What a request tells -->").unwrap().1;
    let section = section.split_once("\n### ").unwrap().0;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let told: Vec<&str> = rows.flat_map(|(columns, _)| columns.trim_end_matches('`').split("` `")).collect();
    for column in &COLUMNS[..INHERITED] {
        assert!(told.contains(column), "{PAGE} does not explain `{column}`");
    }
    for column in told {
        assert!(COLUMNS.contains(&column), "{PAGE} explains `{column}`, which is no column");
    }
}

#[test]
fn the_reasons_of_missing_stamps_are_those_the_code_gives() {
    let reasons = BTreeSet::from(align::REASONS);
    let english = read("docs/troubleshooting.md");
    let section = english.split_once("\n## Stamps are missing\n").unwrap().1.split_once("\n## ").unwrap().0;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(reason, _)| reason).collect::<BTreeSet<_>>(), reasons);
    let page = read(PAGE);
    let section = page.split_once("<!-- en: docs/troubleshooting.md: Stamps are missing -->").unwrap().1;
    let section = section.split_once("\n### ").unwrap().0;
    for reason in reasons {
        assert!(section.contains(&format!("`{reason}`：")), "{PAGE} does not explain `{reason}`");
    }
}

#[test]
fn a_heading_on_one_side_alone_is_told_with_what_to_do() {
    let page = |heading: &str| format!("README.md: {heading}");
    let said = differences(&[page("A"), page("New")], &[page("A"), page("A"), page("Gone")]);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("<!-- en: README.md: New -->") && said[0].contains("`- README.md: New`"));
    assert!(said[1].contains("Gone") && said[2].contains("twice"));
}
