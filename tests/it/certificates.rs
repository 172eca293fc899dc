//! Certificates made for one test, and TLS put before plain ends of it.
//!
//! Rule: the scripted worker and the raw client of the harness stay what they are; TLS is ended or begun in between, so that
//! tests see the same bytes as over plain sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use milepost::config::access::Identity;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Somebody who signs certificates, and a folder for them.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("milepost-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder }
    }

    /// Writes a file into the folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Its own certificate.
    pub fn root(&self) -> PathBuf {
        self.file("root.pem", &self.issuer.pem())
    }

    /// A certificate for these names or addresses, with its key.
    pub fn identity(&self, file: &str, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        self.sign(file, &CertificateParams::new(names).unwrap())
    }

    /// A certificate of this kind, with its key.
    pub fn sign(&self, file: &str, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            cert_path: self.file(&format!("{file}.pem"), &cert.pem()),
            key_path: self.file(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    /// Its own certificate and key, as somebody shows who has made one with openssl and did not say for what.
    pub fn as_identity(&self) -> Identity {
        let key_path = self.file("root.key", &self.issuer.key().serialize_pem());
        Identity { cert_path: self.root(), key_path }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// What a client that trusts this authority is set up with.
    pub fn client(&self, protocols: &[&str]) -> TlsConnector {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    fn server(&self, own: &Identity, wants_client: bool) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&own.cert_path).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&own.key_path).unwrap();
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a server saw of one handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub server_name: Option<String>,
    pub protocol: Option<Vec<u8>>,
    pub client_certificates: usize,
}

/// An https port before a plain scripted worker.
pub struct Front {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Front {
    pub async fn start(authority: &Authority, own: &Identity, wants_client: bool, plain_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain: SocketAddr = plain_url["http://".len()..].parse().unwrap();
        let acceptor = authority.server(own, wants_client);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    let Ok(mut secured) = acceptor.accept(stream).await else {
                        return;
                    };
                    let session = secured.get_ref().1;
                    log.lock().unwrap().push(Seen {
                        server_name: session.server_name().map(str::to_owned),
                        protocol: session.alpn_protocol().map(<[u8]>::to_vec),
                        client_certificates: session.peer_certificates().map_or(0, <[_]>::len),
                    });
                    let mut plain = TcpStream::connect(plain).await.unwrap();
                    let _ = copy_bidirectional(&mut secured, &mut plain).await;
                });
            }
        });
        Self { port, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// A plain port whose bytes go on to `https` by TLS.
pub async fn tunnel(client: TlsConnector, https: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut plain, _) = listener.accept().await.unwrap();
            let client = client.clone();
            tokio::spawn(async move {
                let stream = TcpStream::connect(https).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let mut secured = client.connect(name, stream).await.unwrap();
                let _ = copy_bidirectional(&mut plain, &mut secured).await;
            });
        }
    });
    addr
}

/// A path that names no file.
pub fn nowhere() -> &'static Path {
    Path::new("/nonexistent/milepost.pem")
}
