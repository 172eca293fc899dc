//! The dashboard and the alerts ask only for what the page of metrics has.
//!
//! Rule: a series, label or value that a router does not show fails here, before a panel stays empty. Deliberately not here:
//! whether a limit suits a fleet.

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::promql::{self, Expression};
use crate::{path, read};

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/milepost.json")).unwrap()
}

fn alerts() -> Vec<Yaml> {
    let file = YamlLoader::load_from_str(&read("deploy/prometheus/alerts.yaml")).unwrap().remove(0);
    let groups = file["groups"].as_vec().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_vec().unwrap().clone()).collect()
}

fn asked(place: &str, expr: &str) -> Expression {
    promql::read(expr).unwrap_or_else(|why| panic!("{place}: {why}\n{expr}"))
}

/// The names in `{{name}}`.
fn legend(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim())
}

#[test]
fn every_panel_asks_for_series_and_labels_that_the_router_shows() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut expressions) = (Vec::new(), 0);
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        ids.push(panel["id"].as_u64().unwrap());
        for target in panel["targets"].as_array().into_iter().flatten() {
            let found = asked(title, target["expr"].as_str().unwrap());
            assert!(!found.families.is_empty(), "{title} asks for nothing");
            for name in legend(target["legendFormat"].as_str().unwrap()) {
                assert!(found.labels.contains(name), "{title}: the result has no {name}");
            }
            expressions += 1;
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title} says what it shows");
        }
    }
    assert!(expressions > 30);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().unwrap();
            let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (series, label) = inner.rsplit_once(", ").unwrap();
            assert!(asked("a variable", series).labels.contains(label), "{query}");
        }
    }
}

#[test]
fn no_panel_lies_on_another() {
    let dashboard = dashboard();
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    let places: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(place).collect();
    for (n, [x, y, w, h]) in places.iter().enumerate() {
        assert!(x + w <= 24, "panel {n} is wider than the page");
        let meets =
            |[x2, y2, w2, h2]: &&[u64; 4]| x2 < &(x + w) && x < &(x2 + w2) && y2 < &(y + h) && y < &(y2 + h2);
        assert_eq!(places[..n].iter().find(meets), None, "panel {n}");
    }
}

#[test]
fn every_alert_asks_for_what_the_router_shows_and_leads_to_a_section_that_is_there() {
    let alerts = alerts();
    assert!(alerts.len() > 10);
    let mut names: Vec<&str> = alerts.iter().map(|a| a["alert"].as_str().unwrap()).collect();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let found = asked(name, alert["expr"].as_str().unwrap());
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("page" | "ticket")), "{name}");
        let summary = alert["annotations"]["summary"].as_str().unwrap();
        for label in legend(summary) {
            let label = label.strip_prefix("$labels.").unwrap();
            assert!(found.labels.contains(label), "{name}: the result has no {label}");
        }
        let runbook = alert["annotations"]["runbook"].as_str().unwrap();
        let (page, section) = runbook.split_once('#').unwrap();
        assert!(path(page).is_file(), "{runbook}");
        let text = read(page);
        let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
        let mut slugs = headings.map(|h| h.to_lowercase().replace(' ', "-"));
        assert!(slugs.any(|slug| slug == section), "{name}: {runbook} is not there");
    }
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "an alert twice");
}
