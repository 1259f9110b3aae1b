//! How one setting is written in TOML: reading with a sentence for what would be right, and writing back the same.
//! Durations and sizes are text with a unit (`"30s"`, `"16MiB"`), so that nobody has to guess one.

use crate::{AddressError, PeerAddress, PeerId, Target, parse_target, print_target};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// Reads it; the error says what would be right.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
    /// Writes it as TOML.
    fn write(&self) -> String;
}

/// Longest duration that any setting takes.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most entries of any list.
const MOST_ENTRIES: usize = 10_000;

fn integer(value: &DeValue<'_>, most: u64) -> Result<u64, String> {
    let wrong = || format!("expected a whole number from 0 to {most}, found {}", found(value));
    let number = value.as_integer().ok_or_else(wrong)?;
    let number =
        u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).map_err(|_| wrong())?;
    if number > most { Err(wrong()) } else { Ok(number) }
}

fn text<'a>(value: &'a DeValue<'_>, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("expected {what} in quotes, found {}", found(value)))
}

/// What stands there, for messages; long texts are cut, because a file may hold anything.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("{short:?}")
        }
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| format!("expected true or false, found {}", found(value)))
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_number {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn read(value: &DeValue<'_>) -> Result<$kind, String> {
                let number = integer(value, u64::from(<$kind>::MAX))?;
                <$kind>::try_from(number).map_err(|_| "the number is too large".to_owned())
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_number!(u8, u16, u32);

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<String, String> {
        text(value, "text").map(str::to_owned)
    }
    fn write(&self) -> String {
        quoted(self)
    }
}

impl Value for Duration {
    fn read(value: &DeValue<'_>) -> Result<Duration, String> {
        let text = text(value, "a duration such as \"30s\" or \"5m\"")?;
        match humantime::parse_duration(text) {
            Ok(span) if span <= LONGEST => Ok(span),
            Ok(_) => Err("the duration is longer than 30 days".to_owned()),
            Err(_) => {
                Err(format!("expected a duration such as \"30s\", \"1500ms\" or \"5m\", found {text:?}"))
            }
        }
    }
    fn write(&self) -> String {
        quoted(&humantime::format_duration(*self).to_string())
    }
}

/// A duration or `"never"`.
impl Value for Option<Duration> {
    fn read(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
        if value.as_str() == Some("never") {
            return Ok(None);
        }
        Duration::read(value).map(Some).map_err(|why| format!("{why} (or \"never\")"))
    }
    fn write(&self) -> String {
        self.map_or_else(|| quoted("never"), |span| span.write())
    }
}

/// A fraction or factor, kept per mille.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerMille(pub u32);

impl Value for PerMille {
    fn read(value: &DeValue<'_>) -> Result<PerMille, String> {
        let wrong = || format!("expected a number such as 0.3 or 2, found {}", found(value));
        let number: f64 = match value {
            DeValue::Float(number) => number.as_str().replace('_', "").parse().map_err(|_| wrong())?,
            DeValue::Integer(number) => number.as_str().replace('_', "").parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        if !(0.0..=1_000.0).contains(&number) {
            return Err(wrong());
        }
        let text = format!("{:.0}", number * 1_000.0);
        text.parse().map(PerMille).map_err(|_| wrong())
    }
    fn write(&self) -> String {
        let (whole, part) = (self.0 / 1_000, self.0 % 1_000);
        let text = format!("{whole}.{part:03}");
        let text = text.trim_end_matches('0');
        if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size(pub u64);

impl Value for Size {
    fn read(value: &DeValue<'_>) -> Result<Size, String> {
        const MOST: u64 = 1 << 40;
        if value.is_integer() {
            return integer(value, MOST).map(Size);
        }
        let wrong = || format!("expected a size such as \"64KiB\" or \"16MiB\", found {}", found(value));
        let text = value.as_str().ok_or_else(wrong)?.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).filter(|bytes| *bytes <= MOST).map(Size).ok_or_else(wrong)
    }
    fn write(&self) -> String {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                return quoted(&format!("{}{unit}", self.0 >> shift));
            }
        }
        quoted(&format!("{}B", self.0))
    }
}

/// An empty text stands for none.
fn optional<T>(
    value: &DeValue<'_>,
    what: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    match text(value, what)? {
        "" => Ok(None),
        some => read(some).map(Some).ok_or_else(|| format!("expected {what}, found {}", found(value))),
    }
}

impl Value for Option<IpAddr> {
    fn read(value: &DeValue<'_>) -> Result<Option<IpAddr>, String> {
        optional(value, "an IP address without a port, such as \"203.0.113.5\"", |text| text.parse().ok())
    }
    fn write(&self) -> String {
        quoted(&self.map(|ip| ip.to_string()).unwrap_or_default())
    }
}

impl Value for Option<PathBuf> {
    fn read(value: &DeValue<'_>) -> Result<Option<PathBuf>, String> {
        optional(value, "a path", |text| Some(PathBuf::from(text)))
    }
    fn write(&self) -> String {
        quoted(&self.as_ref().map(|path| path.display().to_string()).unwrap_or_default())
    }
}

impl Value for SocketAddr {
    fn read(value: &DeValue<'_>) -> Result<SocketAddr, String> {
        let what = "an address with a port, such as \"127.0.0.1:7331\" or \"[::1]:7331\"";
        text(value, what)?.parse().map_err(|_| format!("expected {what}, found {}", found(value)))
    }
    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Value for PeerId {
    fn read(value: &DeValue<'_>) -> Result<PeerId, String> {
        text(value, "a peer id")?.parse().map_err(|error: AddressError| error.to_string())
    }
    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Value for PeerAddress {
    fn read(value: &DeValue<'_>) -> Result<PeerAddress, String> {
        text(value, "a peer's address")?.parse().map_err(|error: AddressError| error.to_string())
    }
    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Value for Target {
    fn read(value: &DeValue<'_>) -> Result<Target, String> {
        parse_target(text(value, "a peer id, an IP address or a subnet")?).map_err(|error| error.to_string())
    }
    fn write(&self) -> String {
        quoted(&print_target(self))
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(value: &DeValue<'_>) -> Result<Vec<T>, String> {
        let list =
            value.as_array().ok_or_else(|| format!("expected a list in [ ], found {}", found(value)))?;
        if list.len() > MOST_ENTRIES {
            return Err(format!("the list has more than {MOST_ENTRIES} entries"));
        }
        let read = |(index, entry): (usize, &toml::Spanned<DeValue<'_>>)| {
            T::read(entry.get_ref()).map_err(|why| format!("entry {}: {why}", index + 1))
        };
        list.iter().enumerate().map(read).collect()
    }
    fn write(&self) -> String {
        let entries: Vec<String> = self.iter().map(T::write).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// Settings that take one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $crate::settings::value::Value for $name {
            fn read(value: &toml::de::DeValue<'_>) -> Result<$name, String> {
                match value.as_str() {
                    $(Some($word) => Ok($name::$variant),)*
                    _ => Err(concat!("expected one of:" $(, " \"", $word, "\"")*).to_owned()),
                }
            }
            fn write(&self) -> String {
                match self {
                    $($name::$variant => concat!("\"", $word, "\"").to_owned(),)*
                }
            }
        }
    };
}

pub(super) use words;
