//! TLS over any [`Io`]: certificates are read once at start, each handshake has a limit.
//!
//! Rule: a file that cannot be used is an error that names its flag, its path and what is wrong with it, and never quotes what
//! is in it. HTTP/1.1 is the only protocol offered. Deliberately not here: which flags there are (`config`), whom to trust
//! without being told (no list of the system's is looked for).

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use tokio_rustls::rustls::pki_types::ServerName;

use super::Io;

/// Longest handshake, either side.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Largest PEM file; a system's whole bundle of roots has a quarter of a megabyte.
const MAX_PEM_BYTES: u64 = 16 * 1024 * 1024;

/// A PEM file and the flag that named it.
#[derive(Clone, Copy, Debug)]
pub struct PemFile<'a> {
    /// As it is typed, such as `--tls-cert-path`.
    pub flag: &'static str,
    /// The file.
    pub path: &'a Path,
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// One file is unreadable or holds something else.
    File {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The private key is not the certificate's.
    Mismatch {
        /// The flag of the key.
        key_flag: &'static str,
        /// The key.
        key_path: PathBuf,
        /// The flag of the certificate.
        cert_flag: &'static str,
        /// The certificate.
        cert_path: PathBuf,
    },
    /// Nobody was named who signs the certificates of those that are spoken to by https.
    NoRoots {
        /// What became of `SSL_CERT_FILE`, which is tried where the flag is absent.
        fallback: String,
    },
    /// The library refuses what this router asks of it, whatever the files.
    Library(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { flag, path, why } => write!(f, "{flag}: {}: {why}", path.display()),
            Self::Mismatch { key_flag, key_path, cert_flag, cert_path } => write!(
                f,
                "{key_flag}: {} is not the key of the certificate in {} ({cert_flag})",
                key_path.display(),
                cert_path.display()
            ),
            Self::NoRoots { fallback } => write!(
                f,
                "https needs --ca-cert-paths FILE (PEM): who signs the certificates of the other side; {fallback}"
            ),
            Self::Library(why) => write!(f, "TLS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Why a handshake gave no connection.
#[derive(Debug)]
pub enum HandshakeError {
    /// It took longer than [`HANDSHAKE_LIMIT`].
    Late,
    /// The other end closed before its first byte, as a check does that only asks for an open port.
    Left,
    /// It broke off, or the two sides do not agree.
    Failed(io::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(f, "TLS handshake: not done in {} s", HANDSHAKE_LIMIT.as_secs()),
            Self::Left => f.write_str("TLS handshake: closed before its first byte"),
            Self::Failed(error) => write!(f, "TLS handshake: {error}{}", hint(error)),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// What to look at, for the mistakes that are made most.
fn hint(error: &io::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError, Error, InvalidMessage};
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => " (the other side speaks no TLS)",
        // The latter where a root was made anew under its old name.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            " (signed by nobody in --ca-cert-paths)"
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => " (make it anew, or set this machine's clock)",
        // rustls has no name for it but the verifier's own.
        Some(Error::InvalidCertificate(CertificateError::Other(other)))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            " (this certificate is a CA's; openssl req -x509 makes one for a server with -addext basicConstraints=CA:FALSE)"
        }
        Some(Error::AlertReceived(Alert::UnknownCA)) => " (the other side does not know who signed ours)",
        Some(Error::AlertReceived(Alert::CertificateRequired)) => {
            " (the other side asks for --client-cert-path)"
        }
        _ => "",
    }
}

/// The side that clients see.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

/// The side that https workers see.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// A certificate chain and its key, of this router.
#[derive(Debug)]
pub struct OwnCertificate<'a> {
    cert: PemFile<'a>,
    key: PemFile<'a>,
    chain: Vec<CertificateDer<'static>>,
    key_der: PrivateKeyDer<'static>,
}

impl<'a> OwnCertificate<'a> {
    /// Reads both files.
    pub fn read(cert: PemFile<'a>, key: PemFile<'a>) -> Result<Self, TlsError> {
        Ok(Self { chain: cert.certificates()?, key_der: key.private_key()?, cert, key })
    }

    /// What `rustls` has against them; one that it cannot read at all is told as the certificate's fault.
    fn refused(cert: PemFile<'_>, key: PemFile<'_>, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
                key_flag: key.flag,
                key_path: key.path.to_owned(),
                cert_flag: cert.flag,
                cert_path: cert.path.to_owned(),
            },
            rustls::Error::General(why) => key.bad(why),
            other => cert.bad(&other.to_string()),
        }
    }
}

/// Who signs the certificates of workers.
#[derive(Debug)]
pub struct Roots(RootCertStore);

impl Default for Roots {
    /// Nobody.
    fn default() -> Self {
        Self(RootCertStore::empty())
    }
}

impl Roots {
    /// Adds a file of certificates, each of which must be fit to sign others.
    pub fn add(&mut self, file: PemFile<'_>) -> Result<(), TlsError> {
        for (i, certificate) in file.certificates()?.into_iter().enumerate() {
            self.0
                .add(certificate)
                .map_err(|e| file.bad(&format!("certificate {} cannot be a root: {e}", i + 1)))?;
        }
        Ok(())
    }

    /// Adds a bundle that was made for everybody: what cannot be used in it is left out, unless that is all of it.
    pub fn add_bundle(&mut self, file: PemFile<'_>) -> Result<(), TlsError> {
        match self.0.add_parsable_certificates(file.certificates()?) {
            (0, _) => Err(file.bad("no certificate in it can be a root")),
            _ => Ok(()),
        }
    }
}

impl ServerTls {
    /// A server that shows this certificate.
    pub fn new(own: OwnCertificate<'_>) -> Result<Self, TlsError> {
        let OwnCertificate { cert, key, chain, key_der } = own;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Library(e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key_der)
            .map_err(|e| OwnCertificate::refused(cert, key, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The server's side of a handshake.
    pub async fn accept(&self, io: Io) -> Result<Io, HandshakeError> {
        let shaken = async {
            if io.is_closed_unused().await {
                return Err(HandshakeError::Left);
            }
            self.0.accept(io).await.map_err(HandshakeError::Failed)
        };
        let stream =
            tokio::time::timeout(HANDSHAKE_LIMIT, shaken).await.map_err(|_| HandshakeError::Late)??;
        Ok(Io::Tls(Box::new(stream.into())))
    }
}

impl ClientTls {
    /// A client that believes whom `roots` have signed, and shows `own` to servers that ask.
    pub fn new(roots: Roots, own: Option<OwnCertificate<'_>>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Library(e.to_string()))?
            .with_root_certificates(roots.0);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(OwnCertificate { cert, key, chain, key_der }) => builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|e| OwnCertificate::refused(cert, key, &e))?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The client's side of a handshake with a server that must be `server`.
    pub async fn connect(&self, io: Io, server: ServerName<'static>) -> Result<Io, HandshakeError> {
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, self.0.connect(server, io))
            .await
            .map_err(|_| HandshakeError::Late)?
            .map_err(HandshakeError::Failed)?;
        Ok(Io::Tls(Box::new(stream.into())))
    }
}

/// The name in a certificate that a host must show; `None` if no certificate can be for it.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl PemFile<'_> {
    fn bad(&self, why: &str) -> TlsError {
        TlsError::File { flag: self.flag, path: self.path.to_owned(), why: why.to_owned() }
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.path).map_err(|e| self.bad(&e.to_string()))?;
        file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(|e| self.bad(&e.to_string()))?;
        if bytes.len() as u64 > MAX_PEM_BYTES {
            return Err(self.bad(&format!("longer than {MAX_PEM_BYTES} bytes; expected a PEM file")));
        }
        Ok(bytes)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        // The parser's own words would quote lines of the file.
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let found = found.map_err(|_| self.bad("broken PEM: a section does not end, or is not base64"))?;
        if found.is_empty() {
            return Err(self.bad("no certificate in it; expected PEM, -----BEGIN CERTIFICATE-----"));
        }
        Ok(found)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            let encrypted = b"ENCRYPTED";
            self.bad(match error {
                _ if bytes.windows(encrypted.len()).any(|w| w == encrypted) => {
                    "the key is encrypted, and nothing here asks for a passphrase; give a plain one"
                }
                rustls::pki_types::pem::Error::NoItemsFound => {
                    "no private key in it; expected PEM, -----BEGIN PRIVATE KEY----- (or RSA, EC)"
                }
                _ => "broken PEM: a section does not end, or is not base64",
            })
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::CertifiedKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The two ends of a connection over a pipe that holds so many bytes, their handshake done.
    pub(crate) async fn secured_pipe(bytes: usize) -> (Io, Io) {
        let (server, client) = both_sides();
        let (near, far) = tokio::io::duplex(bytes);
        let name = server_name("localhost").unwrap();
        let (near, far) = tokio::join!(client.connect(Io::Pipe(near), name), server.accept(Io::Pipe(far)));
        (near.unwrap(), far.unwrap())
    }

    fn both_sides() -> (ServerTls, ClientTls) {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = PemFile { flag: "--tls-cert-path", path: Path::new("own.pem") };
        let key_der = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let chain = vec![cert.der().clone()];
        let mut roots = Roots::default();
        roots.0.add(cert.der().clone()).unwrap();
        let server = ServerTls::new(OwnCertificate { cert: file, key: file, chain, key_der }).unwrap();
        (server, ClientTls::new(roots, None).unwrap())
    }

    #[tokio::test]
    async fn tls_runs_over_pipes_too() {
        let (mut near, mut far) = secured_pipe(1024).await;
        let sent = vec![7; 100_000];
        let mut got = vec![0; sent.len()];
        let write = async {
            near.write_all(&sent).await.unwrap();
            near.flush().await.unwrap();
        };
        tokio::join!(write, async { far.read_exact(&mut got).await.unwrap() });
        assert_eq!(got, sent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_given_up_on_both_sides() {
        let (server, client) = both_sides();
        let started = tokio::time::Instant::now();
        let (near, _silent) = tokio::io::duplex(1024);
        assert!(matches!(server.accept(Io::Pipe(near)).await, Err(HandshakeError::Late)));
        let (near, _silent) = tokio::io::duplex(1024);
        let name = server_name("localhost").unwrap();
        assert!(matches!(client.connect(Io::Pipe(near), name).await, Err(HandshakeError::Late)));
        assert_eq!(started.elapsed(), 2 * HANDSHAKE_LIMIT);
    }
}
