//! Forms as they are sent to `/upload`, `/finish` and `/retract`. A file is hashed as it comes, counted, and thrown away
//! unless it is small: what is held in memory does not grow with it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use md5::{Digest, Md5};

const FIELD_BYTES_MAX: usize = 64 << 10;
const HEADERS_BYTES_MAX: usize = 16 << 10;
const READ_BYTES: usize = 256 << 10;

/// What a form says.
#[derive(Debug, Default)]
pub struct Form {
    /// Fields that are no files.
    pub fields: BTreeMap<String, String>,
    /// The file in the field `file`.
    pub file: Option<Sent>,
}

/// A file that was sent.
#[derive(Debug)]
pub struct Sent {
    /// What it is called.
    pub name: String,
    /// What it is said to be.
    pub content_type: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Of all of its bytes, in hexadecimal digits.
    pub md5: String,
    /// Its bytes, if they are few.
    pub kept: Option<Vec<u8>>,
}

/// Why there is no form.
#[derive(Debug)]
pub enum FormError {
    /// The connection ended.
    Broken(io::Error),
    /// It is no form.
    Malformed(&'static str),
}

impl From<io::Error> for FormError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Malformed("its framing is wrong"),
            _ => Self::Broken(error),
        }
    }
}

/// Reads a form of this content type; none where it is no form's.
pub fn read(content_type: &str, body: &mut impl Read, keep_max: usize) -> Option<Result<Form, FormError>> {
    let kind = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-www-form-urlencoded" => Some(urlencoded(body)),
        "multipart/form-data" => {
            let boundary = parameters(content_type).remove("boundary")?;
            Some(Parts::new(body, &boundary).form(keep_max))
        }
        _ => None,
    }
}

fn urlencoded(body: &mut impl Read) -> Result<Form, FormError> {
    let mut bytes = Vec::new();
    body.take(FIELD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FIELD_BYTES_MAX {
        return Err(FormError::Malformed("it is too long"));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let plain = |text: &str| percent_decoded(&text.replace('+', " "));
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    Ok(Form { fields: pairs.map(|(name, value)| (plain(name), plain(value))).collect(), file: None })
}

struct Parts<R> {
    reader: R,
    boundary: Vec<u8>,
    held: Vec<u8>,
}

impl<R: Read> Parts<R> {
    fn new(reader: R, boundary: &str) -> Self {
        // The first boundary may stand at the very beginning.
        Self { reader, boundary: format!("\r\n--{boundary}").into_bytes(), held: b"\r\n".to_vec() }
    }

    fn form(mut self, keep_max: usize) -> Result<Form, FormError> {
        let boundary = self.boundary.clone();
        let mut form = Form::default();
        self.until(&boundary, &mut |_| Ok(()))?;
        while self.another()? {
            let headers = self.text(b"\r\n\r\n", HEADERS_BYTES_MAX)?;
            let header = |wanted: &str| {
                let named = headers.lines().filter_map(|line| line.split_once(':'));
                named
                    .filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
                    .map(|(_, value)| value.trim().to_string())
                    .next()
            };
            let mut given = parameters(&header("content-disposition").unwrap_or_default());
            let name = given.remove("name").ok_or(FormError::Malformed("a part without a name"))?;
            match given.remove("filename") {
                Some(filename) if name == "file" => {
                    form.file = Some(self.file(filename, header("content-type"), keep_max)?);
                }
                _ => {
                    let value = self.text(&boundary, FIELD_BYTES_MAX)?;
                    form.fields.insert(name, value);
                }
            }
        }
        io::copy(&mut self.reader, &mut io::sink())?; // what comes behind the last boundary
        Ok(form)
    }

    /// Whether another part follows the boundary that was read.
    fn another(&mut self) -> Result<bool, FormError> {
        while self.held.len() < 2 {
            self.fill()?;
        }
        match &self.held[..2] {
            b"--" => Ok(false),
            b"\r\n" => {
                self.held.drain(..2);
                Ok(true)
            }
            _ => Err(FormError::Malformed("a boundary that does not end")),
        }
    }

    fn file(
        &mut self,
        name: String,
        content_type: Option<String>,
        keep_max: usize,
    ) -> Result<Sent, FormError> {
        let (mut digest, mut bytes, mut kept) = (Md5::new(), 0, Some(Vec::new()));
        let boundary = self.boundary.clone();
        self.until(&boundary, &mut |piece| {
            digest.update(piece);
            bytes += piece.len() as u64;
            match &mut kept {
                Some(kept) if kept.len() + piece.len() <= keep_max => kept.extend_from_slice(piece),
                kept => *kept = None,
            }
            Ok(())
        })?;
        Ok(Sent { name, content_type, bytes, md5: hex(&digest.finalize()), kept })
    }

    fn text(&mut self, end: &[u8], bytes_max: usize) -> Result<String, FormError> {
        let mut text = Vec::new();
        self.until(end, &mut |piece| {
            text.extend_from_slice(piece);
            if text.len() > bytes_max {
                Err(FormError::Malformed("a field that is too long"))
            } else {
                Ok(())
            }
        })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Hands out everything before `end`, and leaves what is behind it.
    fn until(
        &mut self,
        end: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), FormError>,
    ) -> Result<(), FormError> {
        loop {
            if let Some(at) = find(&self.held, end) {
                take(&self.held[..at])?;
                self.held.drain(..at + end.len());
                return Ok(());
            }
            // `end` may have begun in the last bytes.
            let sure = self.held.len().saturating_sub(end.len() - 1);
            take(&self.held[..sure])?;
            self.held.drain(..sure);
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), FormError> {
        let before = self.held.len();
        self.held.resize(before + READ_BYTES, 0);
        let read = self.reader.read(&mut self.held[before..])?;
        self.held.truncate(before + read);
        if read == 0 { Err(FormError::Malformed("it ends without its last boundary")) } else { Ok(()) }
    }
}

/// Where `wanted` first stands.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == wanted[0]) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The parameters behind a header's value: `form-data; name="file"; filename="a;b.png"`.
fn parameters(value: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ';']).to_ascii_lowercase();
        let (text, behind) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                let end = end.unwrap_or(quoted.len());
                let text = quoted[..end].replace("\\\"", "\"").replace("\\\\", "\\");
                (text, quoted.get(end + 1..).unwrap_or(""))
            }
            None => {
                let (text, behind) = after.split_once(';').unwrap_or((after, ""));
                (text.trim().to_string(), behind)
            }
        };
        match name.strip_suffix('*') {
            // RFC 5987: charset'language'text
            Some(name) => {
                let text = text.splitn(3, '\'').nth(2).unwrap_or(&text);
                found.insert(name.to_string(), percent_decoded(text));
            }
            None => {
                found.entry(name).or_insert(text);
            }
        }
        rest = behind;
    }
    found
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, so that every boundary is met in pieces.
    struct Drop<'b>(&'b [u8]);

    impl Read for Drop<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn a_file_is_hashed_as_it_comes_whatever_is_in_it() {
        let content = b"\r\n--b\r\r\n--\r\n-\x00\xff\r\n--a--\r";
        let head = b"--b-\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n17\r\n--b-\r\ncontent-type: image/png\r\n\
            content-disposition: form-data; name=\"file\"; filename=\"a;\\\"b\\\".png\"\r\n\r\n";
        let body = [&head[..], content, b"\r\n--b---\r\nbehind"].concat();
        for keep in [1000, 3] {
            let form = read("multipart/form-data; boundary=b-", &mut Drop(&body), keep).unwrap().unwrap();
            let file = form.file.unwrap();
            assert_eq!(form.fields["id"], "17");
            assert_eq!(
                (file.name.as_str(), file.content_type.as_deref()),
                ("a;\"b\".png", Some("image/png"))
            );
            assert_eq!(file.bytes, content.len() as u64);
            assert_eq!(file.md5, hex(&Md5::digest(content)));
            assert_eq!(file.kept, (keep == 1000).then(|| content.to_vec()));
        }
        let cut = &body[..body.len() - 20];
        let read_cut = read("multipart/form-data; boundary=b-", &mut &cut[..], 9).unwrap();
        assert!(matches!(read_cut, Err(FormError::Malformed(_))));
    }

    #[test]
    fn both_kinds_of_forms_are_read_and_others_are_not() {
        let form = read("application/x-www-form-urlencoded", &mut &b"id=1%32&x=a+b"[..], 0).unwrap().unwrap();
        assert_eq!((form.fields["id"].as_str(), form.fields["x"].as_str()), ("12", "a b"));
        assert!(read("text/xml", &mut &b"id=12"[..], 0).is_none());
        let named = parameters("form-data; name=file; filename=\"x\"; filename*=utf-8''%C3%A9.png");
        assert_eq!((named["name"].as_str(), named["filename"].as_str()), ("file", "é.png"));
    }
}
