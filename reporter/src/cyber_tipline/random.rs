//! Reports and file details of any kind, from a seed: what reads a model from JSON reads one from chance here, so that no
//! field, kind or list is forgotten. Texts are hostile, and within every documented limit.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::model::{Email, FileDetails, FileRelevance, Labels, Report};

/// The shortest limit of a text, but for the one of `zipCode`.
const CHARS_MAX: usize = 50;
const HOSTILE: [&str; 40] = [
    "a",
    "b",
    "C",
    " ",
    " ",
    "7",
    "é",
    "ß",
    "日本",
    "😀",
    "👨‍👩‍👧",
    "\u{202e}abc\u{202c}",
    "العربية",
    "]]>",
    "<",
    ">",
    "&",
    "\"",
    "'",
    "&amp;",
    "&#1;",
    "<![CDATA[",
    "<!--",
    "-->",
    "<?xml?>",
    "%",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\0",
    "\u{1}",
    "\u{1b}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{1fffe}",
];
const TIMES: [&str; 6] = [
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.678Z",
    "1999-12-31T23:59:59+14:00",
    "2020-02-29T00:00:00-05:30",
    "2026-01-02T03:04:05",
    "1970-01-01T00:00:00.000Z",
];

/// A report that NCMEC would take.
pub fn report(seed: u64) -> Report {
    let mut report: Report = model(seed);
    if report.reporter.reporting_person.email.iter().all(|email| email.text.trim().is_empty()) {
        let email = Email { text: "desk@platform.example".into(), ..Email::default() };
        report.reporter.reporting_person.email.push(email);
    }
    if let Some(reason) = &mut report.incident_summary.escalate_to_high_priority {
        reason.push('!');
    }
    report
}

/// Details that NCMEC would take.
pub fn file_details(seed: u64) -> FileDetails {
    let mut details: FileDetails = model(seed);
    if details.exif_viewed_by_esp == Some(true) {
        details.file_viewed_by_esp = Some(true);
    }
    if details.file_relevance == Some(FileRelevance::Supplemental) {
        details.industry_classification = None;
        match &mut details.labels {
            Some(Labels::FileAnnotations(labels)) => labels.potential_meme = false,
            labels => *labels = None,
        }
    }
    details
}

fn model<T: DeserializeOwned>(seed: u64) -> T {
    let mut chance = Chance(seed);
    let fill = chance.below(60);
    T::deserialize(Random { chance: &mut chance, fill, key: "" })
        .expect("chance has all that a model asks for")
}

/// Numbers by SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    /// A number below this one.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn text(&mut self, pieces: &[&str], max: usize) -> String {
        let mut text = self.one(pieces).to_string();
        for _ in 0..self.below(12) {
            text.push_str(self.one(pieces));
        }
        // What is replaced visibly has eight characters at most.
        while text.encode_utf16().map(|unit| if unit >= 0xfffe { 8 } else { 1 }).sum::<usize>() > max {
            text.pop();
        }
        text
    }
}

/// A value by chance.
struct Random<'c> {
    chance: &'c mut Chance,
    /// How many percent of what may be left out is there.
    fill: usize,
    /// The field it is for.
    key: &'static str,
}

impl Random<'_> {
    fn of(&mut self, key: &'static str) -> Random<'_> {
        Random { chance: self.chance, fill: self.fill, key }
    }

    fn string(&mut self) -> String {
        let chance = &mut self.chance;
        match self.key {
            "incidentDateTime"
            | "dateTime"
            | "@verificationDate"
            | "@disabledDate"
            | "@userNotifiedDate"
            | "@reenabledDate"
            | "@timestamp"
            | "uploadedToEspTimestamp" => chance.one(&TIMES).to_string(),
            "dateOfBirth" => chance.one(&["2012-02-29", "1999-01-01Z", "2000-06-30+02:00"]).to_string(),
            "country" | "countryCode" | "@fleaCountry" => {
                chance.one(&["US", "DE", "XK", "A1", "ZW"]).to_string()
            }
            "state" => chance.one(&["CA", "NY", "PR", "WY"]).to_string(),
            "@countryCallingCode" => chance.one(&["+1", "+49", "+998"]).to_string(),
            "@extension" => chance.one(&["1", "0042"]).to_string(),
            "fileId" => chance.one(&["b6636ef679532f0dc1207b96ee15e943", "f", "1"]).to_string(),
            // White space in an attribute is a blank to whoever reads it.
            "@hashType" => chance.text(
                &["MD5", "PDQ", "<", ">", "&", "\"", "'", "é", " ", "😀", "\u{1}", "\u{fffe}"],
                CHARS_MAX,
            ),
            "zipCode" => chance.text(&HOSTILE, 20),
            _ => chance.text(&HOSTILE, CHARS_MAX),
        }
    }
}

impl<'de> Deserializer<'de> for Random<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("the model has a type that chance does not know"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_map(Fields { random: self, fields: fields.iter(), key: "" })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.chance.below(100) < self.fill { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let least = usize::from(self.key == "nameValuePair");
        let more = if self.chance.below(100) < self.fill { 1 + self.chance.below(2) } else { 0 };
        visitor.visit_seq(List { random: self, left: least + more })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(Variant { name: self.chance.one(variants), random: self })
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.string())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_bool(self.chance.below(2) == 1)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_i32(self.chance.one(&[1, 17, 80, 150]))
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_i64(self.chance.one(&[1, 7_855_764, 9_007_199_254_740_993, i64::MAX, i64::MIN]))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_f64(self.chance.one(&[0.25, -77.5, 179.125]))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 u8 u16 u32 u64 f32 char str bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct map
        identifier ignored_any
    }
}

struct Fields<'c> {
    random: Random<'c>,
    fields: std::slice::Iter<'static, &'static str>,
    key: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = serde::de::value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some(key) = self.fields.next() else { return Ok(None) };
        // A text with attributes is what its element is.
        self.key = if *key == "$text" { self.random.key } else { key };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        seed.deserialize(self.random.of(self.key))
    }
}

struct List<'c> {
    random: Random<'c>,
    left: usize,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = serde::de::value::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let key = self.random.key;
        seed.deserialize(self.random.of(key)).map(Some)
    }
}

struct Variant<'c> {
    random: Random<'c>,
    name: &'static str,
}

impl<'de, 'c> EnumAccess<'de> for Variant<'c> {
    type Error = serde::de::value::Error;
    type Variant = Random<'c>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Random<'c>), Self::Error> {
        Ok((seed.deserialize(StrDeserializer::new(self.name))?, self.random))
    }
}

impl<'de> VariantAccess<'de> for Random<'_> {
    type Error = serde::de::value::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("the model has no such kind"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        Err(Error::custom("the model has no such kind"))
    }
}
