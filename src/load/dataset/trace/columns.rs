//! The CSV of public traces: columns by name, cells without quotes, times of the calendar.
//!
//! Rule: only the columns asked for are looked at, wherever they are. Deliberately not here: what they mean.

/// Where three columns are.
pub(super) struct Columns([usize; 3]);

impl Columns {
    /// Finds them in the header.
    pub(super) fn find(header: &str, names: [&str; 3]) -> Result<Self, String> {
        let mut places = [0; 3];
        for (place, name) in places.iter_mut().zip(names) {
            *place = header
                .split(',')
                .position(|cell| cell.trim().eq_ignore_ascii_case(name))
                .ok_or_else(|| format!("expected a header with a column {name}, got {header:.80}"))?;
        }
        Ok(Self(places))
    }

    /// Their cells in a row.
    pub(super) fn cells<'a>(&self, line: &'a str) -> Result<[&'a str; 3], String> {
        let cell = |place: usize| line.split(',').nth(place).map(str::trim);
        match self.0.map(cell) {
            [Some(a), Some(b), Some(c)] => Ok([a, b, c]),
            _ => Err(format!("too few cells: {line:.80}")),
        }
    }
}

/// A number of tokens. `57.0` will do.
pub(super) fn whole(name: &str, cell: &str) -> Result<u64, String> {
    let digits = cell.strip_suffix(".0").unwrap_or(cell);
    digits.parse().map_err(|_| format!("{name}: expected a whole number, got {cell:?}"))
}

/// `2023-11-16 18:17:03.9799600` (UTC, any number of decimals) as nanoseconds since 1970.
pub(super) fn civil_ns(text: &str) -> Result<u64, String> {
    parse_civil(text).ok_or_else(|| format!("expected a time such as 2023-11-16 18:17:03.979, got {text:?}"))
}

fn parse_civil(text: &str) -> Option<u64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let time = time.trim_end_matches('Z').split('+').next()?;
    let numbers = |text: &str, mark: char| -> Option<[i64; 3]> {
        let mut parts = text.split(mark).map(|part| part.parse::<i64>().ok().filter(|n| *n >= 0));
        let three = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(three)
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let fits = (1970..2262).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?;
    let nanos: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_calendar() {
        assert_eq!(civil_ns("1970-01-01 00:00:00"), Ok(0));
        assert_eq!(civil_ns("2023-11-16 18:17:03.9799600"), Ok(1_700_158_623_979_960_000));
        assert_eq!(civil_ns("2024-02-29T12:00:00Z"), Ok(1_709_208_000_000_000_000));
        assert_eq!(civil_ns("2024-05-10 00:00:00.009930+00:00"), Ok(1_715_299_200_009_930_000));
        for bad in ["", "2023-11-16", "2023-13-01 00:00:00", "2023-11-16 25:00:00", "2023-11-16 1:2:3.x"] {
            assert!(civil_ns(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_are_found_by_name() {
        let columns = Columns::find("x,B, a,c", ["a", "b", "c"]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(columns.cells("0,1,2,3"), Ok(["2", "1", "3"]));
        assert!(columns.cells("0,1").is_err());
        assert_eq!((whole("n", "57.0"), whole("n", "57").is_ok()), (Ok(57), true));
    }
}
