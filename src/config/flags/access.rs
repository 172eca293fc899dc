//! Flags: keys and certificates.

use super::flag::{Flag, Group, Takes, Value};

const NO_JWT: &str = "tokens are not checked here, so control endpoints believed closed would be open; use --control-plane-api-keys";

/// `--api-key`.
pub const API_KEY: Flag = Flag::one(
    "api-key",
    "KEY",
    "What clients must send as Authorization: Bearer, and what workers get where the client sent nothing",
)
.of(Value::Secret);
/// `--control-plane-api-keys`.
pub const CONTROL_PLANE_KEYS: Flag = Flag::list(
    "control-plane-api-keys",
    Takes::ZeroOrMore,
    "ID:NAME:ROLE:KEY",
    "Keys of the control endpoints; role admin may use them, role user may not",
)
.of(Value::Secret);
/// `--control-plane-audit-enabled`.
pub const AUDIT: Flag =
    Flag::switch("control-plane-audit-enabled", "One log line for each use of a control endpoint");
/// `--tls-cert-path`.
pub const TLS_CERT: Flag =
    Flag::one("tls-cert-path", "FILE", "Certificate shown to clients, PEM; with it the router speaks HTTPS")
        .of(Value::Path);
/// `--tls-key-path`.
pub const TLS_KEY: Flag = Flag::one("tls-key-path", "FILE", "Its private key, PEM").of(Value::Path);
/// `--client-cert-path`.
pub const CLIENT_CERT: Flag =
    Flag::one("client-cert-path", "FILE", "Certificate shown to https workers, PEM").of(Value::Path);
/// `--client-key-path`.
pub const CLIENT_KEY: Flag = Flag::one("client-key-path", "FILE", "Its private key, PEM").of(Value::Path);
/// `--ca-cert-paths`.
pub const CA_CERTS: Flag = Flag::list(
    "ca-cert-paths",
    Takes::ZeroOrMore,
    "FILE",
    "Who signs the certificates of https workers, PEM",
)
.of(Value::Path);

/// Who may ask.
pub const ACCESS: Group = Group {
    heading: "Keys and TLS",
    flags: &[
        API_KEY,
        CONTROL_PLANE_KEYS,
        AUDIT,
        TLS_CERT,
        TLS_KEY,
        CLIENT_CERT,
        CLIENT_KEY,
        CA_CERTS,
        Flag::one("jwt-issuer", "URL", "OIDC issuer of tokens").refused(NO_JWT),
        Flag::one("jwt-audience", "TEXT", "Audience of tokens").refused(NO_JWT),
        Flag::one("jwt-jwks-uri", "URL", "Where the issuer's keys are").refused(NO_JWT),
        Flag::list(
            "jwt-role-mapping",
            Takes::ZeroOrMore,
            "ROLE=ROLE",
            "The issuer's roles in the router's terms",
        )
        .refused(NO_JWT),
    ],
};
