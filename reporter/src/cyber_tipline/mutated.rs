//! Documents with one thing changed by chance: an order, a number, a name, a value, an attribute. No value has white space
//! around a number or a time: the schema allows it, and libxml2 does not everywhere.

use super::random::Chance;

const VALUES: [&str; 47] = [
    "",
    " ",
    "true",
    "false",
    "1",
    "0",
    "TRUE",
    " true ",
    "\ntrue",
    "NaN",
    "INF",
    "+INF",
    "inf",
    "1.5",
    "1e3",
    ".5",
    "5.",
    "-1",
    "+1",
    "007",
    "99999999999",
    "9223372036854775807",
    "9223372036854775808",
    "1.0",
    "2026-01-01",
    "2026-01-01Z",
    "2026-01-01T00:00:00",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-01-01T00:00:60Z",
    "2026-01-01T00:00:00+14:00",
    "2026-01-01T00:00:00+15:00",
    "26-01-01T00:00:00Z",
    "US",
    "us",
    "ZZ",
    "CA",
    "Login",
    "login",
    "A1",
    "Reported",
    "Reported ",
    "Home",
    "+12",
    "+1234",
    "text",
];
const NAMES: [&str; 16] = [
    "additionalInfo",
    "email",
    "phone",
    "ipCaptureEvent",
    "deviceId",
    "reportId",
    "fileId",
    "victim",
    "unknown",
    "spam",
    "viral",
    "reporter",
    "screenName",
    "state",
    "details",
    "potentialMeme",
];
const ATTRIBUTES: [&str; 8] =
    ["type", "verified", "hashType", "reason", "fleaCountry", "verificationDate", "unknown", "extension"];

/// What was written by us, with a change.
pub fn mutated(xml: &str, chance: &mut Chance) -> String {
    let mut pieces = pieces(xml);
    let begins: Vec<usize> = (0..pieces.len()).filter(|at| is_begin(&pieces[*at])).collect();
    let at = chance.one(&begins);
    let end = end_of(&pieces, at);
    let is_root = at == begins[0];
    match chance.below(10) {
        0 if !is_root => drop(pieces.drain(at..end)),
        1 if !is_root => drop(pieces.splice(end..end, pieces[at..end].to_vec())),
        2 if pieces.get(end).is_some_and(|next| is_begin(next)) => {
            let next = end_of(&pieces, end);
            pieces[at..next].rotate_left(end - at);
        }
        3 => {
            let name = chance.one(&NAMES);
            let known = name_of(&pieces[at]).to_string();
            pieces[at] = pieces[at].replacen(&known, name, 1);
            if end - 1 > at {
                pieces[end - 1] = format!("</{name}>");
            }
        }
        4 => {
            let added = format!("<{}/>", chance.one(&NAMES));
            pieces.insert(if is_root { at + 1 } else { end }, added);
        }
        5 => {
            let added = format!(" {}=\"{}\"", chance.one(&ATTRIBUTES), chance.one(&VALUES));
            let behind = name_of(&pieces[at]).len() + 1;
            if !pieces[at].contains(added.split('=').next().unwrap_or_default()) {
                pieces[at].insert_str(behind, &added);
            }
        }
        6 => {
            // An attribute's value, or the attribute.
            let tag = pieces[at].clone();
            if let Some((before, rest)) = tag.split_once("=\"").filter(|_| !is_root)
                && let Some((_, behind)) = rest.split_once('"')
            {
                pieces[at] = match (chance.below(3), before.rsplit_once(' ')) {
                    (0, Some((before, _))) => format!("{before}{behind}"),
                    _ => format!("{before}=\"{}\"{behind}", chance.one(&VALUES)),
                };
            }
        }
        7 if pieces[at].ends_with("/>") || !pieces[at + 1].starts_with('<') => {}
        7 => pieces.insert(at + 1, chance.one(&VALUES).to_string()),
        _ if end - at <= 3 && !pieces[at].ends_with("/>") => {
            drop(pieces.splice(at + 1..end - 1, [chance.one(&VALUES).to_string()]));
        }
        _ => {}
    }
    pieces.concat()
}

/// Tags and the texts between them.
fn pieces(xml: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for part in xml.split_inclusive('>') {
        let (text, tag) = part.split_at(part.find('<').unwrap_or(part.len()));
        pieces.extend([text, tag].into_iter().filter(|piece| !piece.is_empty()).map(str::to_string));
    }
    pieces
}

fn is_begin(piece: &str) -> bool {
    piece.starts_with('<') && !piece.starts_with("</") && !piece.starts_with("<?")
}

fn name_of(tag: &str) -> &str {
    let inner = tag.trim_start_matches(['<', '/']);
    &inner[..inner.find([' ', '/', '>']).unwrap_or(inner.len())]
}

/// Behind the end of the element that begins here.
fn end_of(pieces: &[String], begin: usize) -> usize {
    let mut depth = 0;
    for (at, piece) in pieces.iter().enumerate().skip(begin) {
        depth +=
            isize::from(is_begin(piece) && !piece.ends_with("/>")) - isize::from(piece.starts_with("</"));
        if depth == 0 {
            return at + 1;
        }
    }
    pieces.len()
}
