//! What a report says in words because NCMEC has no field for it, or takes less in its fields.

use crate::cyber_tipline::limits::over;

/// Words that gather while a report is built.
#[derive(Default)]
pub struct Said {
    paragraphs: Vec<String>,
    /// What people should know of how it was built.
    pub notes: Vec<String>,
}

impl Said {
    /// Says something in the report.
    pub fn say(&mut self, words: impl Into<String>) {
        let words = words.into();
        if !words.trim().is_empty() {
            self.paragraphs.push(words);
        }
    }

    /// Tells people something about the report.
    pub fn note(&mut self, words: impl Into<String>) {
        self.notes.push(words.into());
    }

    /// A value for a field that takes so many characters; a longer one is said in words instead, whole.
    pub fn fitting(&mut self, what: &str, value: &str, max: usize) -> Option<String> {
        let (fits, words) = fitting(what, value, max);
        if let Some(words) = words {
            self.note(format!("{what} has more than {max} characters: it stands in additionalInfo"));
            self.say(words);
        }
        fits
    }

    /// Everything that was said; none if nothing was.
    pub fn text(&self) -> Option<String> {
        (!self.paragraphs.is_empty()).then(|| self.paragraphs.join("\n\n"))
    }
}

/// A value if it has so many characters at most as it is written, or else words that have it whole.
pub fn fitting(what: &str, value: &str, max: usize) -> (Option<String>, Option<String>) {
    if value.trim().is_empty() {
        return (None, None);
    }
    match over(value, max) {
        Some(_) => (None, Some(format!("{what}, in full: {value}"))),
        None => (Some(value.to_string()), None),
    }
}
