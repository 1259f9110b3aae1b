//! Reads a settings text whole: every mistake is found, with its line and key, before anything is refused. The same
//! list of fields writes settings back and compares two of them.

use super::value::Value;
use super::{Mistake, Settings, SettingsError};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A setting from outside the file: an environment variable or a command line option. It wins over the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// The key as `section.key`.
    pub key: String,
    /// The value as TOML; a word that is no TOML value is taken as text.
    pub value: String,
    /// What to call it in messages: the variable's or option's name.
    pub origin: String,
}

/// Walks every field of [`Settings`].
pub(super) trait Visitor {
    /// One field.
    fn field<T: Value>(&mut self, section: &'static str, key: &'static str, value: &mut T);
}

/// Largest settings text in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Where each key stood.
pub(super) type Places = BTreeMap<String, (usize, Option<String>)>;

struct Entry<'i> {
    value: Spanned<DeValue<'i>>,
    line: usize,
    origin: Option<String>,
}

struct Reader<'i> {
    entries: BTreeMap<(String, String), Entry<'i>>,
    known: BTreeMap<&'static str, BTreeSet<&'static str>>,
    places: Places,
    mistakes: Vec<Mistake>,
}

/// Reads `text` and then the overrides over the defaults.
pub(super) fn read(text: &str, overrides: &[Override]) -> (Settings, Places, Vec<Mistake>) {
    let mut reader = Reader {
        entries: BTreeMap::new(),
        known: BTreeMap::new(),
        places: Places::new(),
        mistakes: Vec::new(),
    };
    let mut settings = Settings::default();
    if text.len() > MAX_TEXT {
        let what = format!("the file is longer than {MAX_TEXT} bytes");
        reader.mistakes.push(Mistake { key: String::new(), line: 0, origin: None, what });
        return (settings, reader.places, reader.mistakes);
    }
    reader.take_file(text);
    let texts: Vec<(&Override, String)> = overrides.iter().map(|over| (over, as_toml(&over.value))).collect();
    for (over, text) in &texts {
        reader.take_override(over, text);
    }
    settings.visit(&mut reader);
    reader.refuse_the_rest();
    reader
        .mistakes
        .sort_by(|a, b| (a.origin.is_some(), a.line, &a.key).cmp(&(b.origin.is_some(), b.line, &b.key)));
    (settings, reader.places, reader.mistakes)
}

/// One stray quote can make a mistake of every letter after it.
const MAX_SYNTAX_MISTAKES: usize = 16;

impl<'i> Reader<'i> {
    fn take_file(&mut self, text: &'i str) {
        let line_of = |at: usize| text.get(..at).map_or(0, |head| head.matches('\n').count() + 1);
        let (table, errors) = DeTable::parse_recoverable(text);
        // Some come without a place, such as for too deep a nesting; they stand beside the first that has one.
        let known = errors.iter().find_map(toml::de::Error::span).map_or(text.len(), |span| span.start);
        for error in errors.iter().take(MAX_SYNTAX_MISTAKES) {
            let line = line_of(error.span().map_or(known, |span| span.start));
            let what = format!("this is not TOML: {}", error.message().trim());
            self.mistakes.push(Mistake { key: String::new(), line, origin: None, what });
        }
        for (section, content) in table.into_inner() {
            let line = line_of(section.span().start);
            let section = section.into_inner().into_owned();
            match content.into_inner() {
                DeValue::Table(keys) => {
                    for (key, value) in keys {
                        let line = line_of(key.span().start);
                        let name = (section.clone(), key.into_inner().into_owned());
                        self.entries.insert(name, Entry { value, line, origin: None });
                    }
                    self.places.insert(section, (line, None));
                }
                _ => {
                    let what = "settings stand in sections: is a [section] line missing above?".to_owned();
                    self.mistakes.push(Mistake { key: section, line, origin: None, what });
                }
            }
        }
    }

    fn take_override(&mut self, over: &Override, text: &'i str) {
        let mistake = |what: &str| Mistake {
            key: over.key.clone(),
            line: 0,
            origin: Some(over.origin.clone()),
            what: what.to_owned(),
        };
        let Some((section, key)) = over.key.split_once('.') else {
            self.mistakes.push(mistake("a key has the form section.key"));
            return;
        };
        match DeValue::parse(text) {
            Ok(value) => {
                let entry = Entry { value, line: 0, origin: Some(over.origin.clone()) };
                self.entries.insert((section.to_owned(), key.to_owned()), entry);
            }
            Err(_) => self.mistakes.push(mistake("the value cannot be read")),
        }
    }

    fn refuse_the_rest(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        for ((section, key), entry) in entries {
            let what = match self.known.get(section.as_str()) {
                _ if key.contains("secret") && section == "network" => {
                    "a secret is never written here: put it into a file of its own and name that in \
                     network.secret_file"
                        .to_owned()
                }
                Some(keys) => {
                    let keys: Vec<&str> = keys.iter().copied().collect();
                    format!("there is no such key; [{section}] has: {}", keys.join(", "))
                }
                None => {
                    let sections: Vec<&str> = self.known.keys().copied().collect();
                    format!("there is no section [{section}]; the sections are: {}", sections.join(", "))
                }
            };
            let key = format!("{section}.{key}");
            self.mistakes.push(Mistake { key, line: entry.line, origin: entry.origin, what });
        }
        let empty: Vec<_> = self
            .places
            .iter()
            .filter(|(place, _)| !place.contains('.') && !self.known.contains_key(place.as_str()))
            .map(|(section, (line, _))| (section.clone(), *line))
            .collect();
        for (section, line) in empty {
            if self.mistakes.iter().any(|mistake| mistake.key.starts_with(&format!("{section}."))) {
                continue;
            }
            let what = "there is no such section".to_owned();
            self.mistakes.push(Mistake { key: section, line, origin: None, what });
        }
    }
}

impl Visitor for Reader<'_> {
    fn field<T: Value>(&mut self, section: &'static str, key: &'static str, value: &mut T) {
        self.known.entry(section).or_default().insert(key);
        let Some(entry) = self.entries.remove(&(section.to_owned(), key.to_owned())) else { return };
        let name = format!("{section}.{key}");
        match T::read(entry.value.get_ref()) {
            Ok(read) => *value = read,
            Err(what) => self.mistakes.push(Mistake {
                key: name.clone(),
                line: entry.line,
                origin: entry.origin.clone(),
                what,
            }),
        }
        self.places.insert(name, (entry.line, entry.origin));
    }
}

/// A word from a command line is text, unless it is a TOML value already.
fn as_toml(value: &str) -> String {
    if DeValue::parse(value).is_ok() {
        value.to_owned()
    } else {
        toml::Value::String(value.to_owned()).to_string()
    }
}

/// Every field as `(section, key, TOML)`, in file order.
#[derive(Default)]
pub(super) struct Written(pub Vec<(&'static str, &'static str, String)>);

impl Visitor for Written {
    fn field<T: Value>(&mut self, section: &'static str, key: &'static str, value: &mut T) {
        self.0.push((section, key, value.write()));
    }
}

/// A mistake found after reading, put where its key stood.
pub(super) fn at(places: &Places, key: &str, what: String) -> Mistake {
    let (line, origin) = places.get(key).cloned().unwrap_or((0, None));
    Mistake { key: key.to_owned(), line, origin, what }
}

/// A refusal, when there is anything to refuse.
pub(super) fn refuse(mistakes: Vec<Mistake>, file: Option<&std::path::Path>) -> Result<(), SettingsError> {
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(SettingsError { file: file.map(Into::into), mistakes })
}
