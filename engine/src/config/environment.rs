//! The names of environment variables that mean something here. A misspelt one would be ignored without a word, where the
//! TOML file refuses an unknown key.

use std::collections::BTreeSet;

use clap::{Args, Command};

use super::Settings;

const PREFIX: &str = "HASHWARD_";
/// Names that no flag of `serve` has: secrets, what other commands read, and what chooses the kernel or the test CyberTipline.
const WITHOUT_FLAG: [&str; 8] = [
    "HASHWARD_TOKEN",
    "HASHWARD_CONTENT_SAFETY_KEY",
    "HASHWARD_S3_ACCESS_KEY_ID",
    "HASHWARD_S3_SECRET_ACCESS_KEY",
    "HASHWARD_CONFIG",
    "HASHWARD_ADMIN_URL",
    "HASHWARD_KERNEL",
    "HASHWARD_NCMEC_BASE_URL",
];

/// Names among these that look like settings and are none. Values are not looked at: they may be secrets.
pub fn unknown(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let flags = Settings::augment_args(Command::new("serve"));
    let mut known: BTreeSet<&str> = WITHOUT_FLAG.into();
    known.extend(flags.get_arguments().filter_map(|flag| flag.get_env()?.to_str()));
    let is_unknown = |name: &String| name.starts_with(PREFIX) && !known.contains(name.as_str());
    names.into_iter().filter(is_unknown).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_told_from_those_that_mean_something() {
        let names =
            ["HASHWARD_CORSE", "HASHWARD_CORES", "HASHWARD_DEV", "HASHWARD_TOKEN", "PATH", "HASHWARDEN"];
        assert_eq!(unknown(names.map(String::from)), ["HASHWARD_CORSE"]);
    }
}
