//! Keeps an event on one line, whatever its fields hold.
//!
//! A path, a name or another's error in a field could end the line and forge the next one, or speak to the terminal of
//! whoever reads the log. Control characters, and those that turn the direction of a text, are written as escapes.

use std::fmt::{self, Write};

use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

/// The fields of an event as tracing-subscriber writes them, without what ends a line or changes how it is shown.
#[derive(Debug, Default)]
pub(super) struct OneLine(DefaultFields);

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        escape(&text, &mut writer)
    }
}

fn escape(text: &str, out: &mut impl Write) -> fmt::Result {
    let mut from = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| misleads(*c)) {
        out.write_str(&text[from..at])?;
        write!(out, "{}", c.escape_default())?;
        from = at + c.len_utf8();
    }
    out.write_str(&text[from..])
}

/// Whether a character ends a line, speaks to a terminal, or shows a text in another order than it has.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Written {
        type Writer = Self;

        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn no_field_ends_its_line_or_speaks_to_the_terminal() {
        let forged = "a\n2026-01-01T00:00:00Z  WARN engine: forged\r\u{1b}[2J\u{9b}1m\u{202e}txt é\u{2028}";
        for ansi in [false, true] {
            let written = Written::default();
            let log = tracing_subscriber::fmt()
                .with_ansi(ansi)
                .without_time()
                .fmt_fields(OneLine::default())
                .with_writer(written.clone())
                .finish();
            tracing::subscriber::with_default(log, || {
                let span = tracing::info_span!("work", path = %forged);
                let _inside = span.enter();
                tracing::warn!(path = %forged, name = forged, debug = ?forged, "cannot read {forged}");
            });
            let bytes = written.0.lock().unwrap().clone();
            let line = String::from_utf8(bytes).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.ends_with('\n') && line.contains("txt é"), "{line:?}");
            let line = line.trim_end();
            let own = |c: char| ansi && c == '\u{1b}'; // colours of the level and the target
            assert!(!line.chars().any(|c| misleads(c) && !own(c)), "{line:?}");
            assert!(!line.contains("\u{1b}[2J"), "{line:?}");
            assert!(
                line.contains("cannot read a\\n2026-01-01T00:00:00Z  WARN engine: forged\\r"),
                "{line:?}"
            );
        }
    }
}
