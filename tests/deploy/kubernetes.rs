//! The Kubernetes manifests: YAML that parses, and ports, paths, flags, labels and times that belong together.
//!
//! Deliberately not here: the schema of Kubernetes, which a cluster checks.

use milepost::admin::table::{Access, find};
use yaml_rust2::{Yaml, YamlLoader};

use crate::flags::settings;
use crate::read;

/// Longest time from SIGTERM to the end that the pod must be given beyond drain and grace, in seconds.
const MARGIN_SECS: u64 = 5;

fn documents(file: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn kind(wanted: &str) -> Yaml {
    let all = ["deploy/kubernetes/milepost.yaml", "deploy/kubernetes/servicemonitor.yaml"];
    let mut all = all.iter().flat_map(|file| documents(file));
    all.find(|d| d["kind"].as_str() == Some(wanted)).unwrap_or_else(|| panic!("no {wanted}"))
}

fn pod() -> Yaml {
    kind("Deployment")["spec"]["template"]["spec"].clone()
}

fn container() -> Yaml {
    pod()["containers"][0].clone()
}

fn number(yaml: &Yaml) -> u64 {
    yaml.as_i64().unwrap_or_else(|| panic!("{yaml:?}")).try_into().unwrap()
}

fn args() -> Vec<String> {
    container()["args"].as_vec().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_container_starts_a_router_whose_ports_are_the_ones_that_are_published() {
    let args = args();
    assert_eq!(args[0], "route");
    let settings = settings(&args[1..]);
    let ports = container()["ports"].clone();
    let port = |name: &str| {
        let all = ports.as_vec().unwrap();
        number(&all.iter().find(|p| p["name"].as_str() == Some(name)).unwrap()["containerPort"])
    };
    assert_eq!(port("http"), u64::from(settings.listen.port));
    assert_eq!(port("metrics"), u64::from(settings.metrics.port));
    assert_eq!(settings.listen.host, "0.0.0.0", "probes come from outside the pod");
    assert_eq!(settings.metrics.host, "0.0.0.0", "Prometheus too");
    let service = kind("Service")["spec"]["ports"].clone();
    for entry in service.as_vec().unwrap() {
        assert_eq!(number(&entry["port"]), port(entry["targetPort"].as_str().unwrap()));
    }
    let endpoint = kind("ServiceMonitor")["spec"]["endpoints"][0].clone();
    assert_eq!(endpoint["port"].as_str(), Some("metrics"));
    assert_eq!(endpoint["path"].as_str(), Some("/metrics"));
}

#[test]
fn probes_ask_open_paths_of_the_router_and_a_drain_does_not_look_like_a_death() {
    for (probe, path) in [("livenessProbe", "/liveness"), ("readinessProbe", "/readiness")] {
        let get = container()[probe]["httpGet"].clone();
        assert_eq!(get["path"].as_str(), Some(path), "{probe}");
        assert_eq!(get["port"].as_str(), Some("http"), "{probe}");
        let entry = find(path).unwrap_or_else(|| panic!("{path} is no path of the router's own"));
        assert_eq!(entry.access, Access::Public, "a probe has no key");
    }
}

#[test]
fn the_pod_lives_longer_than_the_router_drains() {
    let config = settings(&args()[1..]).config;
    let needed = config.drain_delay.as_secs() + config.shutdown_grace.as_secs() + MARGIN_SECS;
    let given = number(&pod()["terminationGracePeriodSeconds"]);
    assert!(given >= needed, "terminationGracePeriodSeconds is {given}, drain and grace need {needed}");
    // "Not ready" has to be seen by the probe before the port closes.
    let probe = container()["readinessProbe"].clone();
    let seen = number(&probe["periodSeconds"]) * number(&probe["failureThreshold"]);
    assert!(config.drain_delay.as_secs() > seen, "the drain is over before {seen} s of probes");
}

#[test]
fn memory_of_the_pod_holds_what_the_router_may_keep() {
    let limit = container()["resources"]["limits"]["memory"].as_str().unwrap().to_owned();
    let gib: u64 = limit.strip_suffix("Gi").unwrap().parse().unwrap();
    let config = settings(&args()[1..]).config;
    let kept = config.max_buffered_request_bytes + (512 << 20);
    assert!(gib << 30 > kept + (1 << 30), "{limit} for {kept} bytes of bodies and index");
}

#[test]
fn selectors_find_the_pods_and_no_node_is_kept_for_ever() {
    let labels = kind("Deployment")["spec"]["template"]["metadata"]["labels"].clone();
    for of in ["Deployment", "PodDisruptionBudget", "ServiceMonitor"] {
        assert_eq!(kind(of)["spec"]["selector"]["matchLabels"], labels, "{of}");
    }
    assert_eq!(kind("Service")["spec"]["selector"], labels);
    assert_eq!(kind("Service")["metadata"]["labels"], labels, "the ServiceMonitor looks for the Service");
    let replicas = number(&kind("Deployment")["spec"]["replicas"]);
    assert!(replicas > number(&kind("PodDisruptionBudget")["spec"]["minAvailable"]));
}

#[test]
fn the_trace_is_on_a_volume_as_the_rest_is_read_only() {
    let folder = container()["volumeMounts"][0]["mountPath"].as_str().unwrap().to_owned();
    let config = settings(&args()[1..]).config;
    let log = config.trace_log.unwrap();
    assert!(log.starts_with(&folder), "{} outside {folder}", log.display());
    assert_eq!(container()["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
    let volume = pod()["volumes"][0].clone();
    assert_eq!(container()["volumeMounts"][0]["name"], volume["name"]);
    let claimed = &volume["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"];
    let claimed_gib: u64 = claimed.as_str().unwrap().strip_suffix("Gi").unwrap().parse().unwrap();
    let most_bytes = config.capture.max_bytes.expect("nobody looks after it at night");
    assert!(
        most_bytes + most_bytes / 8 <= claimed_gib << 30,
        "a file of an eighth may be there packed and plain"
    );
    assert_eq!(pod()["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
}
