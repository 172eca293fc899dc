//! What is told: sections, printed as they are made, and put into the page between its markers.
//!
//! Rule: a section that was not made in this run stays as it was, with the date it was made on; the prose round the markers
//! is never touched. Deliberately not here: what the sections say.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// More than this of the machine is used by others: told before anything is measured.
const NOISY_PERCENT: f64 = 10.0;

/// A part of the page.
pub struct Section {
    /// The word of its marker.
    pub key: &'static str,
    /// Its heading when printed.
    pub title: &'static str,
    /// Its text.
    pub text: String,
}

/// What was made so far.
#[derive(Default)]
pub struct Page(Vec<Section>);

impl Page {
    /// Prints a section and keeps it.
    pub fn add(&mut self, section: Section) {
        progress("");
        println!("## {}\n\n{}", section.title, section.text);
        self.0.push(section);
    }

    /// Puts all sections into the page at `path`, each with the day and, behind that, `how` it was made.
    pub fn write(&self, path: &Path, how: &str) -> Result<(), String> {
        let today = milepost::units::utc(milepost::clock::Clock::system().now().unix_ns);
        let made = format!("Made on {}{how}.", &today[..10]);
        let mut page = read(path)?;
        for section in &self.0 {
            let place = place(&page, section.key).map_err(|what| told(path, &what))?;
            page.replace_range(place, &format!("{}\n_{made}_\n", section.text));
        }
        fs::write(path, page).map_err(|e| told(path, &e.to_string()))
    }
}

/// Whether a page has a place for every section: asked before minutes are spent on what could not be written.
pub fn check(path: &Path, keys: &[&str]) -> Result<(), String> {
    let page = read(path)?;
    keys.iter().try_for_each(|key| place(&page, key).map(drop)).map_err(|what| told(path, &what))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| told(path, &e.to_string()))
}

fn told(path: &Path, what: &str) -> String {
    format!("--write {}: {what}", path.display())
}

/// What is between the markers of a section.
fn place(page: &str, key: &str) -> Result<Range<usize>, String> {
    let (begin, end) = (format!("<!-- made: {key} -->\n"), format!("<!-- end: {key} -->"));
    let from = page.find(&begin).map(|at| at + begin.len());
    let to = from.and_then(|from| page[from..].find(&end).map(|at| from + at));
    let missing = || format!("the lines `{}` and `{end}` are missing", begin.trim_end());
    from.zip(to).map(|(from, to)| from..to).ok_or_else(missing)
}

/// A text and a list under it.
pub fn with_notes(mut text: String, notes: &[String]) -> String {
    for (n, note) in notes.iter().enumerate() {
        text.push_str(if n == 0 { "\n- " } else { "- " });
        text.push_str(note);
        text.push('\n');
    }
    text
}

/// The machine and the day, without its name.
pub fn machine(cores: usize, open_files: u64) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let gib = kib.trim().trim_end_matches(" kB").parse().unwrap_or(0_u64) >> 20;
    format!(
        "{}, {cores} cores, {gib} GiB, Linux {}, {open_files} open files allowed",
        model.trim_start_matches(['\t', ' ', ':']),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// What is going on, on a terminal; nothing wipes it.
pub fn progress(what: &str) {
    use std::io::{IsTerminal, Write};
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // A terminal that takes nothing is no reason to stop.
        let _ = write!(out, "\r\x1b[K{what}");
        let _ = out.flush();
    }
}

/// What is told where others use much of the machine, whose numbers are noise then.
pub fn others() -> Option<String> {
    let percent = others_share() * 100.0;
    let text = || format!("others use {percent:.0} % of this machine: take no number below for good");
    (percent > NOISY_PERCENT).then(text)
}

/// Share of the machine that others use, from a look of half a second.
fn others_share() -> f64 {
    let read = || -> Option<(u64, u64)> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let times: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
        Some((times.iter().take(8).sum(), times.get(3)? + times.get(4)?))
    };
    let before = read();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (Some((all_0, idle_0)), Some((all_1, idle_1))) = (before, read()) else { return 0.0 };
    let all = all_1.saturating_sub(all_0).max(1);
    1.0 - idle_1.saturating_sub(idle_0) as f64 / all as f64
}
