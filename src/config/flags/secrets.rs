//! Flags that are keys: `--api-key` and `--control-plane-api-keys`.
//!
//! Rule: no error has a key in it, nor a part of one; and a key that cannot be sent or is empty stops the start, as otherwise
//! what its owner believes closed would be open.

use super::access;
use super::{Flag, FlagError, Given};
use crate::config::access::{ApiKey, AuthConfig, ControlPlaneKey};

/// What the flags say about keys.
pub(super) fn auth(given: &Given) -> Result<AuthConfig, FlagError> {
    let api_key = given.text(&access::API_KEY)?.map(|text| key(&access::API_KEY, "", text)).transpose()?;
    let mut control_plane: Vec<ControlPlaneKey> = Vec::new();
    for (i, text) in given.texts(&access::CONTROL_PLANE_KEYS)?.into_iter().enumerate() {
        let entry = control_plane_key(i, text)?;
        if let Some(first) = control_plane.iter().position(|other| other.key == entry.key) {
            let expected =
                format!("entry {} to have a key of its own, it has that of entry {}", i + 1, first + 1);
            return Err(FlagError::expected(&access::CONTROL_PLANE_KEYS, expected, ""));
        }
        control_plane.push(entry);
    }
    Ok(AuthConfig { api_key, control_plane, audit: given.switch(&access::AUDIT) })
}

/// `id:name:role:key`; the key may have colons of its own.
fn control_plane_key(i: usize, text: &str) -> Result<ControlPlaneKey, FlagError> {
    let flag = &access::CONTROL_PLANE_KEYS;
    let place = format!(" in entry {}", i + 1);
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let &[id, name, role, secret] = parts.as_slice() else {
        let expected = format!("id:name:role:key{place}, got {} of the 4 parts (not shown)", parts.len());
        return Err(FlagError::expected(flag, expected, ""));
    };
    // The role is not quoted: with a part left out, the key stands in its place.
    let is_admin = match role.to_ascii_lowercase().as_str() {
        "admin" => true,
        "user" => false,
        _ => {
            let expected =
                format!("the role admin or user as third part{place} (id:name:role:key, not shown)");
            return Err(FlagError::expected(flag, expected, ""));
        }
    };
    Ok(ControlPlaneKey {
        id: id.to_owned(),
        name: name.to_owned(),
        is_admin,
        key: key(flag, &place, secret)?,
    })
}

fn key(flag: &Flag, place: &str, text: &str) -> Result<ApiKey, FlagError> {
    let sendable = text.bytes().all(|byte| byte.is_ascii_graphic());
    ApiKey::new(text).filter(|_| sendable).ok_or_else(|| {
        let why = if text.is_empty() {
            "it is empty (was the variable that holds it set?)"
        } else {
            "it has a blank or another character that cannot be sent in a header"
        };
        FlagError::expected(flag, format!("a key of visible ASCII characters{place}; {why}"), "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flag: &Flag, values: &[&str]) -> Result<AuthConfig, String> {
        let mut given = Given::default();
        given.set(flag, values.iter().map(Into::into).collect());
        auth(&given).map_err(|e| e.to_string())
    }

    #[test]
    fn control_plane_keys_are_read_as_sglang_router_reads_them() {
        let keys = of(&access::CONTROL_PLANE_KEYS, &["a:Service Account:Admin:se:cret", "b::user:other"]);
        let keys = keys.unwrap().control_plane;
        let (first, second) = (&keys[0], &keys[1]);
        assert_eq!((first.id.as_str(), first.name.as_str(), first.is_admin), ("a", "Service Account", true));
        assert!(first.key.is(b"se:cret"), "a key may have colons");
        assert!(!second.is_admin && second.key.is(b"other"));
    }

    #[test]
    fn no_error_shows_a_key() {
        let keys = &access::CONTROL_PLANE_KEYS;
        for (flag, values, words) in [
            (keys, &["secret"][..], "id:name:role:key in entry 1, got 1 of the 4 parts"),
            (keys, &["a:b:user:ok", "a:b:secret"], "in entry 2, got 3 of the 4 parts"),
            (keys, &["a:b:secret:admin"], "the role admin or user as third part in entry 1"),
            (keys, &["a:b:admin:"], "in entry 1; it is empty"),
            (keys, &["a:b:admin:secret", "c:d:user:secret"], "entry 2 to have a key of its own"),
            (&access::API_KEY, &[""], "it is empty (was the variable that holds it set?)"),
            (&access::API_KEY, &["secret key"], "a blank"),
            (&access::API_KEY, &["secret\n"], "a blank"),
        ] {
            let error = of(flag, values).unwrap_err();
            assert!(error.contains(words) && error.contains(flag.name), "{values:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
