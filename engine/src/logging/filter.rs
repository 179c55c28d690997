//! Reads the filter of the log so that a slip of the pen blinds nobody.

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::OURS;

/// The filter that `--log` names. A word that is neither a level nor a module of this program is refused: it would be taken
/// as a module that never logs. Where no level is given for all, warnings and errors are logged.
pub(super) fn read(text: &str) -> Result<EnvFilter> {
    let wrong = |why: &str| {
        anyhow!(
            "--log '{text}' is not a log filter ({why}): give a level (error, warn, info, debug, trace, off), and modules with \
             theirs behind it, as in info,engine::intake=debug"
        )
    };
    let mut for_all = false;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if part.parse::<LevelFilter>().is_ok() {
            for_all = true;
            continue;
        }
        let module = part.split(['=', '[']).next().unwrap_or_default();
        let is_ours = OURS.contains(&module.split("::").next().unwrap_or_default());
        match part.rsplit_once('=') {
            Some((_, level)) if level.parse::<LevelFilter>().is_err() => {
                return Err(wrong("the word behind = is no level"));
            }
            None if !is_ours => {
                return Err(wrong("it has a word that is neither a level nor a module of this program"));
            }
            _ => {}
        }
    }
    let whole = if for_all { text.to_string() } else { format!("warn,{text}") };
    EnvFilter::builder().parse(whole).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_refused_and_warnings_are_always_logged() {
        for (text, level) in [
            ("info", LevelFilter::INFO),
            ("debug,engine::shard=trace", LevelFilter::TRACE),
            ("off", LevelFilter::OFF),
            ("", LevelFilter::WARN),
            ("hyper=off", LevelFilter::WARN),
            ("engine=error", LevelFilter::WARN),
            ("engine::intake", LevelFilter::TRACE),
        ] {
            assert_eq!(read(text).unwrap().max_level_hint(), Some(level), "{text:?}");
        }
        for text in ["inf", "bogus=,,x", "info,engine=loud", "nosuch", "info,warning"] {
            assert!(read(text).unwrap_err().to_string().contains("is not a log filter"), "{text:?}");
        }
    }
}
