//! A policy's file, looked at again and again: what has changed and can be used is used.
//!
//! Rule: a file that cannot be used changes nothing but the log, and is told of once; one that is still being written (it has
//! changed since the last look) waits for the next. Looked at by its stamp and off the request path, so nothing of the system's
//! own kind of watching is needed. Deliberately not here: what a file says (`config::policy_file`).

use std::sync::Arc;
use std::time::Duration;

use milepost_policies::{Policy, PolicyConfig, PolicyId};

use super::Fleet;
use crate::config::policy_file::{PolicyError, PolicyFile, Stamp};
use crate::log;

/// The policy in use, and the file it is from.
#[derive(Debug)]
pub struct Watched {
    /// Which of the fleet's policies.
    pub policy: PolicyId,
    /// Its file.
    pub file: PolicyFile,
    /// What the file was when the policy was built.
    pub stamp: Option<Stamp>,
}

impl Watched {
    /// The file of the configured policy, as it is now.
    pub fn configured(file: &PolicyFile) -> Self {
        Self { policy: PolicyId::default(), file: file.clone(), stamp: file.stamp() }
    }
}

/// What a look found.
enum Found {
    Nothing,
    /// Other than at the last look.
    Changing(Option<Stamp>),
    Changed(Option<Stamp>, Result<(Box<dyn Policy>, Vec<String>), PolicyError>),
}

/// Looks at the file every so often, for ever; run it as a task.
pub async fn watch(fleet: Arc<Fleet>, watched: Watched, config: PolicyConfig, every: Duration) {
    let Watched { policy, file, stamp: mut used } = watched;
    let file = Arc::new(file);
    let mut seen = used;
    loop {
        tokio::time::sleep(every).await;
        let looked_at = Arc::clone(&file);
        // A file may lie on another machine, and be slow.
        let look = tokio::task::spawn_blocking(move || look(&looked_at, &config, used, seen));
        match look.await {
            Ok(Found::Nothing) => seen = used,
            Ok(Found::Changing(stamp)) => seen = stamp,
            Ok(Found::Changed(stamp, built)) => {
                (used, seen) = (stamp, stamp);
                adopt(&fleet, policy, &file, built);
            }
            // It panicked, and the panic hook has told; the same file would do so again, another one need not.
            Err(_) => used = seen,
        }
    }
}

fn look(file: &PolicyFile, config: &PolicyConfig, used: Option<Stamp>, seen: Option<Stamp>) -> Found {
    let stamp = file.stamp();
    if stamp == used {
        Found::Nothing
    } else if stamp == seen {
        Found::Changed(stamp, file.build(config))
    } else {
        Found::Changing(stamp)
    }
}

fn adopt(
    fleet: &Fleet,
    policy: PolicyId,
    file: &PolicyFile,
    built: Result<(Box<dyn Policy>, Vec<String>), PolicyError>,
) {
    match built {
        Ok((built, warnings)) => {
            fleet.replace_policy(policy, built);
            log::info(&format!(
                "policy {}: {} has changed and is used now",
                file.label(),
                file.path().display()
            ));
            for warning in warnings {
                log::warn(&format!("policy {}: {warning}", file.label()));
            }
        }
        Err(error) => {
            log::warn(&format!(
                "policy {} goes on as it was, its file cannot be used: {error}",
                file.label()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy_file::PolicyName;

    #[test]
    fn a_change_is_taken_up_once_it_has_settled_and_told_of_once() {
        let path = std::env::temp_dir().join(format!("milepost-{}-reload.toml", std::process::id()));
        let write = |text: &str| {
            let beside = path.with_extension("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(beside, &path).unwrap();
        };
        write("[scorers]\nqueue = 1");
        let name = PolicyName::parse(&format!("weighted:{}", path.display())).unwrap();
        let (file, config) = (name.file().unwrap(), PolicyConfig::default());
        let first = file.stamp();
        assert!(matches!(look(file, &config, first, first), Found::Nothing));
        for (text, good) in [("[scorers]\nttft = 1", true), ("[scorers", false)] {
            write(text);
            let Found::Changing(seen) = look(file, &config, first, first) else {
                panic!("it has changed since the last look");
            };
            let Found::Changed(used, built) = look(file, &config, first, seen) else {
                panic!("it has settled");
            };
            assert_eq!((used, built.is_ok()), (seen, good));
            assert!(matches!(look(file, &config, used, used), Found::Nothing));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(look(file, &config, first, first), Found::Changing(None)));
        assert!(matches!(look(file, &config, first, None), Found::Changed(None, Err(_))));
    }
}
