//! What is wrong with a settings file, by line and key. Every mistake is listed, not only the first.

use std::fmt;

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Mistake {
    /// The key as `section.key`; empty when the text itself cannot be read.
    pub key: String,
    /// Line in the file, from 1; 0 when it comes from elsewhere.
    pub line: usize,
    /// Where from, when not from the file: an environment variable or option.
    pub origin: Option<String>,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// A refused settings file: nothing of it was taken (fault G1).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct SettingsError {
    /// Which file, when it was one.
    pub file: Option<std::path::PathBuf>,
    /// Every mistake, by line.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        } else if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "the settings in {} are refused:", file.display())?,
            None => f.write_str("the settings are refused:")?,
        }
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}
