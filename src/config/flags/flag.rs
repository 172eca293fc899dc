//! What is known about one flag: its name, what it takes, what becomes of it.
//!
//! Rule: a flag is a constant; whoever reads a value names the constant, so a misspelt flag does not compile. Deliberately not
//! here: the flags themselves (one file a group beside this one) and what was typed (`given`).

use std::fmt;

/// How many values stand behind a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None: it is there or it is not.
    Switch,
    /// Exactly one; of several occurrences the last counts.
    One,
    /// Any number, none included; of several occurrences the last counts.
    ZeroOrMore,
    /// At least one; of several occurrences the last counts.
    OneOrMore,
    /// At least one, and every occurrence counts.
    Repeated,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Any text.
    Text,
    /// Any text, and it is never printed.
    Secret,
    /// A file or folder.
    Path,
    /// A whole number in this range.
    Integer(i128, i128),
    /// A finite number in this range.
    Number(f64, f64),
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Value {
    /// A whole number of at least `least`.
    pub const fn at_least(least: i128) -> Self {
        Self::Integer(least, i64::MAX as i128)
    }

    /// A whole number of any sign, as argparse's `int` takes it.
    pub const fn any_integer() -> Self {
        Self::Integer(i64::MIN as i128, i64::MAX as i128)
    }
}

impl fmt::Display for Value {
    /// What an error says was expected.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Text | Self::Secret => f.write_str("a text"),
            Self::Path => f.write_str("a path"),
            Self::Integer(least, most) if least < 0 && most == i128::from(i64::MAX) => {
                f.write_str("a whole number")
            }
            // Where the type behind it ends is nobody's concern.
            Self::Integer(least, most) if most >= i128::from(u32::MAX) => {
                write!(f, "a whole number of at least {least}")
            }
            Self::Integer(least, most) => write!(f, "a whole number from {least} to {most}"),
            Self::Number(least, f64::MAX) if least > 0.0 && least < 1e-300 => f.write_str("a number above 0"),
            Self::Number(least, f64::MAX) => write!(f, "a number of at least {least}"),
            Self::Number(least, most) => write!(f, "a number from {least} to {most}"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it says.
    Works,
    /// It is taken, has no effect, and a warning says this.
    Ignored(&'static str),
    /// With any value but the default the router does not start, and says this.
    Refused(&'static str),
}

/// Who had the flag first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// sglang-router 0.3.2.
    SglangRouter,
    /// smg, its successor.
    Smg,
    /// milepost.
    Milepost,
}

/// One flag of `milepost route`.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// How many values.
    pub takes: Takes,
    /// What a value is.
    pub value: Value,
    /// What stands for the value in help.
    pub value_name: &'static str,
    /// The value when the flag is not given; `None`: there is none, or the switch is off.
    pub default: Option<&'static str>,
    /// Its meaning in one line.
    pub about: &'static str,
    /// What becomes of it.
    pub standing: Standing,
    /// Whose it is.
    pub origin: Origin,
}

impl Flag {
    const fn new(name: &'static str, takes: Takes, value_name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            takes,
            value: Value::Text,
            value_name,
            default: None,
            about,
            standing: Standing::Works,
            origin: Origin::SglangRouter,
        }
    }

    /// A flag without a value.
    pub const fn switch(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Takes::Switch, "", about)
    }

    /// A flag with one value.
    pub const fn one(name: &'static str, value_name: &'static str, about: &'static str) -> Self {
        Self::new(name, Takes::One, value_name, about)
    }

    /// A flag with a list of values.
    pub const fn list(
        name: &'static str,
        takes: Takes,
        value_name: &'static str,
        about: &'static str,
    ) -> Self {
        Self::new(name, takes, value_name, about)
    }

    /// Its values are of this kind.
    #[must_use]
    pub const fn of(mut self, value: Value) -> Self {
        self.value = value;
        self
    }

    /// Its default.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Its other spellings.
    #[must_use]
    pub const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// It comes from elsewhere than sglang-router.
    #[must_use]
    pub const fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// It has no effect, and why.
    #[must_use]
    pub const fn ignored(mut self, why: &'static str) -> Self {
        self.standing = Standing::Ignored(why);
        self
    }

    /// It cannot be used, why, and what to do instead.
    #[must_use]
    pub const fn refused(mut self, why: &'static str) -> Self {
        self.standing = Standing::Refused(why);
        self
    }
}

/// Flags under one heading.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The heading in help.
    pub heading: &'static str,
    /// In the order of help.
    pub flags: &'static [Flag],
}
