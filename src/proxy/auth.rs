//! Who may ask for what, and with which key a worker is asked.
//!
//! Rule: a key is compared in constant time and goes nowhere but to a worker: not into the trace, not into a log line.
//! Deliberately not here: the class of a path (`admin::access`), the keys themselves (`config::access`).

use crate::admin::{self, Access};
use crate::config::access::{ApiKey, AuthConfig, ControlPlaneKey};
use crate::log;
use crate::trace::record::RequestRecord;
use crate::wire::problem::Problem;

/// Who uses a control endpoint.
enum Caller<'a> {
    /// Whoever holds one of `--control-plane-api-keys`.
    Named(&'a ControlPlaneKey),
    /// Whoever holds the `--api-key`, which guards these endpoints too where they have no keys of their own.
    KeyHolder,
    /// Anybody, as no key is set.
    Anybody,
    /// Without a key that is known.
    Nobody,
}

/// Lets a request through, or says why not.
pub fn check(
    auth: &AuthConfig,
    path: &str,
    authorization: Option<&[u8]>,
    record: &RequestRecord,
) -> Result<(), Problem> {
    if auth.api_key.is_none() && auth.control_plane.is_empty() && !auth.audit {
        return Ok(());
    }
    match admin::access(path) {
        Access::Public => Ok(()),
        Access::Proxied => match &auth.api_key {
            Some(key) if !token(authorization).is_some_and(|token| key.is(token)) => Err(unauthorized()),
            _ => Ok(()),
        },
        Access::Control => {
            let caller = caller(auth, token(authorization));
            let answer = match caller {
                Caller::Named(ControlPlaneKey { is_admin: false, .. }) => Err(forbidden()),
                Caller::Nobody => Err(unauthorized()),
                _ => Ok(()),
            };
            if auth.audit {
                log::info(&audit_line(record, &caller, answer.is_ok()));
            }
            answer
        }
    }
}

/// The one `Authorization` that a worker gets. Where this router has a key, the client's was that one, and the worker gets
/// its own key or else the same; without, the client's own passes, and a worker's key stands in where there is none.
pub fn for_worker<'a>(
    auth: &'a AuthConfig,
    workers_own: Option<&'a ApiKey>,
    clients: Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    match auth.for_worker(workers_own) {
        Some(bearer) if auth.api_key.is_some() || clients.is_none() => Some(bearer.as_bytes()),
        _ => clients,
    }
}

/// What follows `Bearer`, in any case of letters (RFC 9110, 11.1).
fn token(authorization: Option<&[u8]>) -> Option<&[u8]> {
    let (scheme, token) = authorization?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii_start())
}

fn caller<'a>(auth: &'a AuthConfig, token: Option<&[u8]>) -> Caller<'a> {
    let token = token.unwrap_or_default();
    if !auth.control_plane.is_empty() {
        let named = auth.control_plane.iter().find(|known| known.key.is(token));
        return named.map_or(Caller::Nobody, Caller::Named);
    }
    match &auth.api_key {
        None => Caller::Anybody,
        Some(key) if key.is(token) => Caller::KeyHolder,
        Some(_) => Caller::Nobody,
    }
}

/// Quoted where the words are somebody else's, so that one use is one line.
fn audit_line(record: &RequestRecord, caller: &Caller<'_>, allowed: bool) -> String {
    let who = match caller {
        Caller::Named(key) => format!("id {:?} name {:?}", key.id, key.name),
        Caller::KeyHolder => "the holder of --api-key".to_owned(),
        Caller::Anybody => "anybody, as no key is set".to_owned(),
        Caller::Nobody => "nobody known".to_owned(),
    };
    format!(
        "audit: {} {} by {who} from {}, request {}: {}",
        record.method,
        record.path,
        record.client.as_deref().unwrap_or("a pipe"),
        record.request_id,
        if allowed { "allowed" } else { "refused" }
    )
}

fn unauthorized() -> Problem {
    Problem::new(401, "unauthorized", "the key is missing or not known here")
}

fn forbidden() -> Problem {
    Problem::new(403, "forbidden", "control endpoints need a key of the role admin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<ApiKey> {
        ApiKey::new(text)
    }

    fn named(id: &str, is_admin: bool, secret: &str) -> ControlPlaneKey {
        ControlPlaneKey {
            id: id.to_owned(),
            name: "On\ncall".to_owned(),
            is_admin,
            key: key(secret).unwrap(),
        }
    }

    fn ask(auth: &AuthConfig, path: &str, authorization: &str) -> u16 {
        let value = Some(authorization.as_bytes()).filter(|v| !v.is_empty());
        check(auth, path, value, &RequestRecord::default()).map_or_else(|p| p.status, |()| 200)
    }

    #[test]
    fn each_class_of_paths_has_its_key() {
        let open = AuthConfig::default();
        let closed = AuthConfig { api_key: key("K"), ..AuthConfig::default() };
        let control_plane = vec![named("a", true, "ADMIN"), named("u", false, "USER")];
        let steered = AuthConfig { api_key: key("K"), control_plane, ..AuthConfig::default() };
        // Without keys; with --api-key; with control keys too.
        for (path, authorization, expected) in [
            ("/health", "", [200, 200, 200]),
            ("/generate", "", [200, 401, 401]),
            ("/generate", "Bearer K", [200, 200, 200]),
            ("/generate", "bearer  K", [200, 200, 200]),
            ("/generate", "Basic K", [200, 401, 401]),
            ("/generate", "K", [200, 401, 401]),
            ("/generate", "Bearer Kx", [200, 401, 401]),
            ("/generate", "Bearer ADMIN", [200, 401, 401]),
            ("/workers", "", [200, 401, 401]),
            ("/workers", "Bearer K", [200, 200, 401]),
            ("/workers", "Bearer ADMIN", [200, 401, 200]),
            ("/workers", "Bearer USER", [200, 401, 403]),
        ] {
            let got = [&open, &closed, &steered].map(|auth| ask(auth, path, authorization));
            assert_eq!(got, expected, "{path} with {authorization:?}");
        }
    }

    #[test]
    fn the_audit_line_is_one_line_and_names_no_key() {
        let auth = AuthConfig { control_plane: vec![named("ops", true, "ADMIN")], ..AuthConfig::default() };
        let record =
            RequestRecord { path: "/workers".into(), method: "POST".into(), ..RequestRecord::default() };
        let allowed = audit_line(&record, &caller(&auth, Some(b"ADMIN")), true);
        assert!(
            allowed.starts_with(r#"audit: POST /workers by id "ops" name "On\ncall" from "#),
            "{allowed}"
        );
        let refused = audit_line(&record, &caller(&auth, Some(b"ADMIM")), false);
        assert!(refused.contains("by nobody known") && refused.ends_with("refused"), "{refused}");
        assert!(!format!("{allowed}{refused}").contains("ADMI"), "{allowed}{refused}");
    }

    #[test]
    fn a_worker_gets_one_key_and_the_right_one() {
        let (router, worker, none) = (key("ROUTER"), key("WORKER"), None);
        for (router, worker, client, expected) in [
            (&none, &none, "", None),
            (&none, &none, "Bearer own", Some("Bearer own")),
            (&none, &worker, "", Some("Bearer WORKER")),
            (&none, &worker, "Bearer own", Some("Bearer own")),
            (&router, &none, "Bearer ROUTER", Some("Bearer ROUTER")),
            (&router, &worker, "Bearer ROUTER", Some("Bearer WORKER")),
        ] {
            let auth = AuthConfig { api_key: router.clone(), ..AuthConfig::default() };
            let client_value = Some(client.as_bytes()).filter(|v| !v.is_empty());
            let got = for_worker(&auth, worker.as_ref(), client_value);
            assert_eq!(got, expected.map(str::as_bytes), "{router:?} {worker:?} {client}");
        }
    }
}
