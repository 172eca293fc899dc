//! What `--policy` and its like name: a policy, and for some the file that says how it decides.
//!
//! Rule: `NAME` or `NAME:FILE`, and a file that cannot be used is an error with its path, the place in it and what to do. Only
//! the operator names files: a request may name the label that a configured one has. Deliberately not here: when a file is
//! looked at again (`fleet::reload`).

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use milepost_policies::script::{self, MAX_SCRIPT_BYTES};
use milepost_policies::weighted::Weighted;
use milepost_policies::{Policy, PolicyConfig, Script, ScriptError, UnknownPolicy, Weights, WeightsError};

use crate::log;

/// Characters of a file's name that are in its label.
const MAX_STEM_CHARS: usize = 64;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Script,
    Weights,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        match name {
            "script" => Some(Self::Script),
            "weighted" => Some(Self::Weights),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Weights => "weighted",
        }
    }
}

/// A file that says how a policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    kind: Kind,
    path: PathBuf,
    label: &'static str,
}

/// What a policy is called where it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// One of [`milepost_policies::POLICIES`].
    BuiltIn(String),
    /// One that a file says.
    File(PolicyFile),
}

/// Why a policy cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// No policy has this name.
    Unknown(UnknownPolicy),
    /// This one takes no file.
    NoFile(String),
    /// This one is nothing without a file.
    WantsFile,
    /// The file cannot be read.
    Unreadable(PathBuf, String),
    /// It is no script.
    Script(PathBuf, ScriptError),
    /// It has no weights.
    Weights(PathBuf, WeightsError),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(f, "{error}, script:FILE, weighted:FILE"),
            Self::NoFile(name) => write!(f, "{name} takes no file; script:FILE and weighted:FILE do"),
            Self::WantsFile => f.write_str("expected script:FILE, the path of a script in Rhai"),
            Self::Unreadable(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Script(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Weights(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for PolicyError {}

impl PolicyName {
    /// Reads `NAME` or `NAME:FILE`; no file is opened.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let (name, file) = match text.split_once(':') {
            Some((name, file)) => (name, Some(file)),
            None => (text, None),
        };
        match (Kind::of(name), file) {
            (Some(_), Some("")) | (Some(Kind::Script), None) => Err(PolicyError::WantsFile),
            (Some(kind), Some(path)) => Ok(Self::File(PolicyFile::new(kind, Path::new(path)))),
            (None | Some(Kind::Weights), _) => {
                milepost_policies::build(name, &PolicyConfig::default()).map_err(PolicyError::Unknown)?;
                if file.is_some() {
                    return Err(PolicyError::NoFile(name.to_owned()));
                }
                Ok(Self::BuiltIn(name.to_owned()))
            }
        }
    }

    /// What records, metrics and `x-policy` call it: the name, and of a file `script:` or `weighted:` and the file's name
    /// without its ending.
    pub fn label(&self) -> &str {
        match self {
            Self::BuiltIn(name) => name,
            Self::File(file) => file.label,
        }
    }

    /// Its file.
    pub fn file(&self) -> Option<&PolicyFile> {
        match self {
            Self::BuiltIn(_) => None,
            Self::File(file) => Some(file),
        }
    }

    /// Builds it, and says in the log what is odd about it.
    pub fn build(&self, config: &PolicyConfig) -> Result<Box<dyn Policy>, PolicyError> {
        match self {
            Self::BuiltIn(name) => milepost_policies::build(name, config).map_err(PolicyError::Unknown),
            Self::File(file) => {
                let (policy, warnings) = file.build(config)?;
                for warning in warnings {
                    log::warn(&format!("policy {}: {warning}", file.label));
                }
                Ok(policy)
            }
        }
    }
}

/// What changes when a file does: device, inode, length, and seconds and nanoseconds of its last change.
pub type Stamp = (u64, u64, u64, i64, i64);

impl PolicyFile {
    fn new(kind: Kind, path: &Path) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let visible = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let stem: String = stem.chars().take(MAX_STEM_CHARS).map(visible).collect();
        // A policy's name lives as long as the process, and so do the few that an operator gives.
        let label = Box::leak(format!("{}:{stem}", kind.name()).into_boxed_str());
        Self { kind, path: path.to_owned(), label }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What records, metrics and `x-policy` call the policy.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// Its state, without reading it; `None` if there is no such file.
    pub fn stamp(&self) -> Option<Stamp> {
        let meta = std::fs::metadata(&self.path).ok()?;
        Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    }

    /// Reads it and builds the policy, with what is odd about it.
    pub fn build(&self, config: &PolicyConfig) -> Result<(Box<dyn Policy>, Vec<String>), PolicyError> {
        let text = self.read()?;
        match self.kind {
            Kind::Script => {
                let compiled =
                    script::compile(&text).map_err(|error| PolicyError::Script(self.path.clone(), error))?;
                let warnings = compiled.warnings().to_vec();
                Ok((Box::new(Script::new(self.label, compiled)), warnings))
            }
            Kind::Weights => {
                let weights =
                    Weights::parse(&text).map_err(|error| PolicyError::Weights(self.path.clone(), error))?;
                Ok((Box::new(Weighted::new(self.label, weights, config.seed)), Vec::new()))
            }
        }
    }

    fn read(&self) -> Result<String, PolicyError> {
        let refuse = |why: String| PolicyError::Unreadable(self.path.clone(), why);
        let meta =
            std::fs::metadata(&self.path).map_err(|error| refuse(format!("cannot read it: {error}")))?;
        if !meta.is_file() {
            return Err(refuse("expected a file; it is something else".to_owned()));
        }
        let mut bytes = Vec::new();
        let limit = MAX_SCRIPT_BYTES as u64 + 1;
        let file = std::fs::File::open(&self.path);
        let read = file.and_then(|file| file.take(limit).read_to_end(&mut bytes));
        read.map_err(|error| refuse(format!("cannot read it: {error}")))?;
        if bytes.len() > MAX_SCRIPT_BYTES {
            return Err(refuse(format!("expected at most {MAX_SCRIPT_BYTES} bytes, it has {}", meta.len())));
        }
        String::from_utf8(bytes).map_err(|error| {
            refuse(format!("expected UTF-8; byte {} is none", error.utf8_error().valid_up_to()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match PolicyName::parse(text).and_then(|name| name.build(&PolicyConfig::default())) {
            Ok(policy) => panic!("{text} is {}", policy.name()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_name_may_have_a_file_and_its_label_is_short_and_visible() {
        for (text, label) in [
            ("round_robin", "round_robin"),
            ("weighted", "weighted"),
            ("script:/etc/milepost/fast.rhai", "script:fast"),
            ("weighted:w/my weights:2.toml", "weighted:my_weights_2"),
            ("script:ä\n.rhai", "script:__"),
        ] {
            assert_eq!(PolicyName::parse(text).unwrap().label(), label);
        }
        let long = format!("script:{}", "x".repeat(300));
        assert_eq!(PolicyName::parse(&long).unwrap().label().len(), "script:".len() + MAX_STEM_CHARS);
    }

    #[test]
    fn what_cannot_be_had_is_said_with_what_to_do() {
        assert!(error("sript:x").starts_with("unknown policy \"sript\""));
        assert!(error("shortest-queue").ends_with("weighted), script:FILE, weighted:FILE"));
        assert_eq!(error("random:x"), "random takes no file; script:FILE and weighted:FILE do");
        assert!(error("script").contains("expected script:FILE"));
        assert!(error("script:").contains("expected script:FILE"));
        assert!(error("script:/no/such.rhai").starts_with("/no/such.rhai: cannot read it: "));
        assert_eq!(error("script:/dev/zero"), "/dev/zero: expected a file; it is something else");
        let folder = std::env::temp_dir();
        let path = folder.join(format!("milepost-{}-policy-file", std::process::id()));
        let long = " ".repeat(MAX_SCRIPT_BYTES + 1);
        for (kind, bytes, expected) in [
            ("script", &b"fn score(r, w) {\n 1 +\n}"[..], ": line 3, column 1: "),
            (
                "weighted",
                b"[scorers]\nprefix = 1",
                ": scorers.prefix: no such scorer; did you mean prefix_match?",
            ),
            ("script", b"\xff\xfe", ": expected UTF-8; byte 0 is none"),
            ("weighted", long.as_bytes(), ": expected at most 65536 bytes, it has 65537"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let told = error(&format!("{kind}:{}", path.display()));
            assert!(told.starts_with(&format!("{}{expected}", path.display())), "{told}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
