//! Where a demo runs, in a few words.
//!
//! Rule: what cannot be told is left out. Deliberately not here: anything that names the host or its owner.

use std::fmt;

use serde::Serialize;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: Option<usize>,
    /// Name of the processor.
    pub processor: Option<String>,
    /// Operating system and architecture.
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().ok().map(std::num::NonZero::get),
            processor: processor(&cpuinfo),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(name).filter(|name| !name.is_empty())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cores) = self.cores {
            write!(f, "{cores} core{}, ", if cores == 1 { "" } else { "s" })?;
        }
        if let Some(processor) = &self.processor {
            write!(f, "{processor}, ")?;
        }
        f.write_str(&self.system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told() {
        let name = processor("processor\t: 0\nmodel name\t: Some(R)  CPU @ 2 GHz\n");
        let machine = Machine { cores: Some(2), processor: name, system: "linux x86_64".to_owned() };
        assert_eq!(machine.to_string(), "2 cores, Some(R) CPU @ 2 GHz, linux x86_64");
        let machine = Machine { cores: None, processor: processor(""), ..machine };
        assert_eq!(machine.to_string(), "linux x86_64");
    }
}
