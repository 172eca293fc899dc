//! Keys, certificates and origins: who may ask, and how this router shows who it is.
//!
//! Rule: a key never appears in `Debug`, a log line, a metric or the trace. Certificates are read here once, at start, so
//! that a bad file is told with its flag. Deliberately not here: checking keys (`proxy`), handshakes (`net`).

use std::fmt;
use std::path::PathBuf;

use http::HeaderValue;

use crate::net::tls::{ClientTls, OwnCertificate, PemFile, Roots, ServerTls, TlsError};

/// A secret that is compared in constant time and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    secret: Box<str>,
    bearer: Option<HeaderValue>,
}

impl ApiKey {
    /// A key; the empty text is none.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self { secret: text.into(), bearer: bearer(text) })
    }

    /// The secret itself, for the one place that sends it.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// `Bearer` and the secret, marked as sensitive; `None` if it has bytes that no header can carry, or white space around
    /// it, which none keeps.
    pub fn bearer(&self) -> Option<&HeaderValue> {
        self.bearer.as_ref()
    }

    /// True for this key, in a time that does not depend on where the two differ.
    pub fn is(&self, other: &[u8]) -> bool {
        let own = self.secret.as_bytes();
        let differing = own.iter().zip(other).fold(0, |seen, (a, b)| seen | (a ^ b));
        std::hint::black_box(differing) == 0 && own.len() == other.len()
    }
}

fn bearer(secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {secret}")).ok()?;
    value.set_sensitive(true);
    (secret.trim() == secret).then_some(value)
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// One of `--control-plane-api-keys`, `id:name:role:key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlaneKey {
    /// For the audit log.
    pub id: String,
    /// For the audit log.
    pub name: String,
    /// Role `admin` may use the control endpoints, role `user` may not.
    pub is_admin: bool,
    /// The secret.
    pub key: ApiKey,
}

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// What clients must send as `Authorization: Bearer`, and what workers without a key of their own get (`--api-key`).
    pub api_key: Option<ApiKey>,
    /// Keys of the control endpoints (`--control-plane-api-keys`); where there are none, `api_key` guards them too.
    pub control_plane: Vec<ControlPlaneKey>,
    /// One log line for each use of a control endpoint (`--control-plane-audit-enabled`).
    pub audit: bool,
}

impl AuthConfig {
    /// The `Authorization` for a worker: its own key, or else this router's.
    pub fn for_worker<'a>(&'a self, workers_own: Option<&'a ApiKey>) -> Option<&'a HeaderValue> {
        workers_own.or(self.api_key.as_ref()).and_then(ApiKey::bearer)
    }
}

/// A certificate chain and its private key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The chain.
    pub cert_path: PathBuf,
    /// The key.
    pub key_path: PathBuf,
}

/// TLS on either side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// What clients see (`--tls-cert-path`, `--tls-key-path`); without it the router speaks plain HTTP.
    pub server: Option<Identity>,
    /// What https workers see (`--client-cert-path`, `--client-key-path`).
    pub client: Option<Identity>,
    /// Who signs the certificates of https workers (`--ca-cert-paths`); required where there is one.
    pub ca_cert_paths: Vec<PathBuf>,
    /// Stands in where no `--ca-cert-paths` was given: the environment's `SSL_CERT_FILE`, where OpenSSL looks too.
    pub ssl_cert_file: Option<PathBuf>,
}

impl Identity {
    fn read(&self, cert_flag: &'static str, key_flag: &'static str) -> Result<OwnCertificate<'_>, TlsError> {
        let cert = PemFile { flag: cert_flag, path: &self.cert_path };
        OwnCertificate::read(cert, PemFile { flag: key_flag, path: &self.key_path })
    }
}

impl TlsConfig {
    /// What clients' connections are accepted with; `None`: plain.
    pub fn incoming(&self) -> Result<Option<ServerTls>, TlsError> {
        let own = self.server.as_ref().map(|own| own.read("--tls-cert-path", "--tls-key-path"));
        own.transpose()?.map(ServerTls::new).transpose()
    }

    /// What https workers are reached with. The error is [`TlsError::NoRoots`] where nothing is wrong as long as no worker is
    /// https.
    pub fn outgoing(&self) -> Result<ClientTls, TlsError> {
        let own = self.client.as_ref().map(|own| own.read("--client-cert-path", "--client-key-path"));
        let own = own.transpose()?;
        let mut roots = Roots::default();
        for path in &self.ca_cert_paths {
            roots.add(PemFile { flag: "--ca-cert-paths", path })?;
        }
        let rootless = match &self.ssl_cert_file {
            _ if !self.ca_cert_paths.is_empty() => None,
            None => Some("SSL_CERT_FILE is not set either".to_owned()),
            Some(path) => {
                let file = PemFile { flag: "SSL_CERT_FILE", path };
                roots.add_bundle(file).err().map(|error| error.to_string())
            }
        };
        // Even without roots: a key that is not the certificate's is a mistake whether there is an https worker or not.
        let client = ClientTls::new(roots, own)?;
        rootless.map_or(Ok(client), |fallback| Err(TlsError::NoRoots { fallback }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_whole_and_never_shown() {
        let key = ApiKey::new("secret").unwrap();
        assert!(key.is(b"secret"));
        for other in ["", "secre", "secret1", "Secret"] {
            assert!(!key.is(other.as_bytes()), "{other}");
        }
        assert!(!format!("{key:?}").contains("secret"));
        assert_eq!(ApiKey::new(""), None);
        assert_eq!(key.bearer().unwrap(), "Bearer secret");
        for unfit in ["two\nlines", "secret\n", " secret"] {
            assert_eq!(ApiKey::new(unfit).unwrap().bearer(), None, "{unfit:?}");
        }
    }
}
