//! The kinds of values settings have.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use index::SignalType;
use ingest::media::cage::Enforcement;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which reactor drives the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reactor {
    /// The same as epoll.
    #[default]
    Auto,
    /// io_uring.
    Glommio,
    /// epoll.
    Epoll,
}

/// What happens where the system refuses a part of the decoders' cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cage {
    /// The server does not start.
    #[default]
    Full,
    /// It runs with what there is.
    Partial,
}

impl From<Cage> for Enforcement {
    fn from(cage: Cage) -> Self {
        match cage {
            Cage::Full => Self::Full,
            Cage::Partial => Self::Partial,
        }
    }
}

impl From<Enforcement> for Cage {
    fn from(enforcement: Enforcement) -> Self {
        match enforcement {
            Enforcement::Full => Self::Full,
            Enforcement::Partial => Self::Partial,
        }
    }
}

/// The durabilities an operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityWord {
    /// Survives kill -9.
    Wal,
    /// Survives a power cut.
    Sync,
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for comparing and sending only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Which of HMA's routes a process serves, so that one program can be deployed split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// `/h`: hash media.
    pub hasher: bool,
    /// `/m`: match.
    pub matcher: bool,
    /// `/c`: curate banks.
    pub curator: bool,
}

/// Address ranges with commas between; a lone address is a range of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ranges(pub Vec<IpNet>);

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |word: &str| {
            let lone = || word.parse::<IpAddr>().map(IpNet::from).ok();
            word.parse()
                .ok()
                .or_else(lone)
                .ok_or_else(|| format!("'{word}' is no address range like 10.1.0.0/16"))
        };
        words(text).map(range).collect::<Result<_, _>>().map(Self)
    }
}

/// Names with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Names(pub Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(words(text).map(str::to_string).collect()))
    }
}

/// Ports with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ports(pub Vec<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |word: &str| word.parse().map_err(|_| format!("'{word}' is no port"));
        words(text).map(port).collect::<Result<_, _>>().map(Self)
    }
}

/// Names of signal types with commas between.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SignalTypes(pub Vec<SignalType>);

impl Default for SignalTypes {
    /// Those of HMA's reference installation.
    fn default() -> Self {
        Self(vec![SignalType::Pdq, SignalType::VideoMd5])
    }
}

impl FromStr for SignalTypes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds: Vec<SignalType> = words(text)
            .map(SignalType::from_name)
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        if kinds.is_empty() { Err("name at least one signal type".to_string()) } else { Ok(Self(kinds)) }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

macro_rules! text_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
                out.write_str(&words.join(","))
            }
        }
    };
}
text_form!(Ranges);
text_form!(Names);
text_form!(Ports);
text_form!(SignalTypes);
