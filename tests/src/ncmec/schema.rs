//! What is refused of XML that is sent, with the codes of NCMEC's answers and in the manner of its validator.

use reporter::cyber_tipline::schema::{Rule, validate_at};

use super::book::Reply;

/// Problems that an answer names.
const PROBLEMS_MAX: usize = 5;

/// Whether XML is well-formed, has this root, and keeps the schema and the documented rules at this time.
pub fn check(xml: &[u8], root: &str, now_ms: u64) -> Result<(), Reply> {
    if let Err(problems) = validate_at(xml, now_ms) {
        let is_malformed = problems.iter().any(|problem| problem.rule == Rule::WellFormed);
        let (code, what) =
            if is_malformed { (4110, "Malformed XML submittal") } else { (4100, "Validation failed") };
        let words: Vec<String> = problems.iter().take(PROBLEMS_MAX).map(ToString::to_string).collect();
        return Err(Reply::refused(code, format!("{what} - {}", words.join("; "))));
    }
    if root_of(&String::from_utf8_lossy(xml)) == Some(root) {
        return Ok(());
    }
    Err(Reply::refused(4100, format!("Validation failed - cvc-elt.1.a: The root element must be '{root}'.")))
}

/// The name of the first element; the XML was checked before.
fn root_of(xml: &str) -> Option<&str> {
    let mut rest = &xml[xml.find('<')?..];
    loop {
        let end = match rest.get(..2)? {
            "<?" => "?>",
            "<!" => "-->",
            _ => break,
        };
        rest = rest.split_once(end)?.1;
        rest = &rest[rest.find('<')?..];
    }
    rest[1..].split(|c: char| c.is_whitespace() || c == '>' || c == '/').next()
}
