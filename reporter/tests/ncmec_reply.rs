//! What NCMEC answers, as recorded and documented (specs/cybertipline.md 1.1 to 1.4), and everything else that may come in
//! its place.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::path::Path;

use proptest::prelude::*;
use reporter::cyber_tipline::reply::{REPLY_BYTES_MAX, Reply, ReplyError, parse};
use reporter::cyber_tipline::schema::validate;

const RECORDED: &str = "application/xml;charset=ISO-8859-1";

fn xml(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<reportResponse>{inner}</reportResponse>"
    )
}

fn read(inner: &str) -> Reply {
    parse(xml(inner).as_bytes(), None).unwrap()
}

fn refused(body: &[u8], content_type: Option<&str>) -> String {
    parse(body, content_type).unwrap_err().to_string()
}

#[test]
fn the_recorded_answers_are_read() {
    let status = parse(
        b"<reportResponse><responseCode>0</responseCode><responseDescription>Remote User : x, Remote Ip : 203.0.113.7\
          </responseDescription></reportResponse>",
        Some(RECORDED),
    );
    let said = "Remote User : x, Remote Ip : 203.0.113.7".to_string();
    assert_eq!(status.unwrap(), Reply { description: Some(said), ..Reply::default() });
    let opened = read(
        "<responseCode>0</responseCode><responseDescription>Success</responseDescription>\n  <reportId> 7855764 </reportId>",
    );
    assert_eq!((opened.code, opened.report_id, opened.files), (0, Some(7_855_764), None));
    let uploaded = read(
        "<responseCode>0</responseCode><responseDescription>Success</responseDescription><reportId>1</reportId>\
         <fileId>b6636ef679532f0dc1207b96ee15e943</fileId><hash>fafa5efeaf3cbe3b23b2748d13e629a1</hash>",
    );
    assert_eq!(uploaded.file_id.as_deref(), Some("b6636ef679532f0dc1207b96ee15e943"));
    assert_eq!(uploaded.hash.as_deref(), Some("fafa5efeaf3cbe3b23b2748d13e629a1"));
}

#[test]
fn check_08_a_code_is_read_under_either_root_and_by_names() {
    for root in ["reportResponse", "reportDoneResponse"] {
        let body = format!(
            "<{root}><files><fileId>a</fileId><other/><fileId>b</fileId></files><new>1</new><reportId>9</reportId>\
             <responseCode>4100</responseCode></{root}>"
        );
        let reply = parse(body.as_bytes(), None).unwrap();
        assert_eq!((reply.code, reply.report_id), (4100, Some(9)));
        assert_eq!(reply.files, Some(vec!["a".to_string(), "b".to_string()]));
    }
    let none = parse(b"<reportDoneResponse><responseCode>0</responseCode><reportId>9</reportId><files/></reportDoneResponse>", None);
    assert_eq!(none.unwrap().files, Some(vec![]), "an empty list is a list");
}

#[test]
fn check_41_ids_beyond_two_to_the_53_are_exact_and_others_are_refused() {
    for id in [9_007_199_254_740_993, i64::MAX, i64::MIN] {
        let reply = read(&format!("<responseCode>0</responseCode><reportId>{id}</reportId>"));
        assert_eq!(reply.report_id, Some(id));
    }
    for id in ["9223372036854775808", "1e3", "1.0", "NaN", "0x1", "1 2", "1<x/>2"] {
        let body = xml(&format!("<responseCode>0</responseCode><reportId>{id}</reportId>"));
        match parse(body.as_bytes(), None) {
            Err(ReplyError::NotAReply { why, .. }) => assert!(why.contains("reportId"), "{why}"),
            Ok(reply) => assert_eq!(reply.report_id, None, "{id}"),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn check_60_both_charsets_are_decoded_as_declared() {
    let latin = |head: &str| {
        let mut body = head.as_bytes().to_vec();
        body.extend(b"<reportResponse><responseCode>1</responseCode><responseDescription>Jos\xe9 \x80</responseDescription></reportResponse>");
        body
    };
    let utf_8 = "<reportResponse><responseCode>1</responseCode><responseDescription>José \u{80}</responseDescription></reportResponse>";
    for (body, content_type) in [
        (latin(""), Some(RECORDED)),
        (latin(""), Some("text/xml; x=y; Charset=\"latin1\"")),
        (latin("<?xml version='1.0' encoding='ISO-8859-1'?>"), None),
        (
            latin("<?xml version=\"1.0\" encoding = \"iso-8859-1\" standalone=\"yes\"?>"),
            Some("application/xml"),
        ),
        // What HTTP says is said later than the document (RFC 7303 3).
        (latin("<?xml version='1.0' encoding='UTF-8'?>"), Some(RECORDED)),
        (utf_8.as_bytes().to_vec(), None),
        (utf_8.as_bytes().to_vec(), Some("text/xml; charset=utf-8")),
        (format!("\u{feff}{utf_8}").into_bytes(), Some("text/html")),
    ] {
        let reply = parse(&body, content_type).unwrap();
        assert_eq!(reply.description.as_deref(), Some("José \u{80}"), "{content_type:?}");
    }
    assert!(refused(&latin(""), None).contains("is not UTF-8"));
    assert!(refused(&latin("<?xml version='1.0' encoding='UTF-16'?>"), None).contains("charset 'UTF-16'"));
}

#[test]
fn check_60_a_dtd_entities_depth_and_length_are_refused() {
    let code = "<responseCode>0</responseCode>";
    let dtd = format!(
        "<!DOCTYPE reportResponse [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><reportResponse>{code}&a;</reportResponse>"
    );
    assert!(refused(dtd.as_bytes(), None).contains("a DTD is refused"));
    assert!(
        refused(xml(&format!("{code}<responseDescription>&nbsp;</responseDescription>")).as_bytes(), None)
            .contains("none of XML's five")
    );
    let reply = read(&format!(
        "{code}<responseDescription>&lt;&amp;&#x41;&quot;<![CDATA[<b>]]></responseDescription>"
    ));
    assert_eq!(reply.description.as_deref(), Some("<&A\"<b>"));
    let deep = format!("{code}{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
    assert!(refused(xml(&deep).as_bytes(), None).contains("nested"));
    let long =
        xml(&format!("{code}<responseDescription>{}</responseDescription>", "x".repeat(REPLY_BYTES_MAX)));
    let error = parse(long.as_bytes(), None).unwrap_err();
    assert!(matches!(error, ReplyError::TooLong { bytes, .. } if bytes == long.len()), "{error}");
    let ids = "<fileId>b6636ef679532f0dc1207b96ee15e943</fileId>".repeat(20_000);
    assert_eq!(read(&format!("{code}<files>{ids}</files>")).files.unwrap().len(), 20_000);
}

#[test]
fn what_is_no_answer_says_what_came() {
    assert_eq!(parse(b" \r\n", None), Err(ReplyError::Empty));
    for (body, says) in [
        (
            "<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>",
            "it begins: <!DOCTYPE html> <html><body>502 Bad Gateway",
        ),
        ("<html><body>ok</body></html>", "its root is 'html'"),
        ("<report/>", "its root is 'report'"),
        ("OK", "not XML"),
        ("{\"responseCode\":0}", "it begins: {\"responseCode\":0}"),
        ("<reportResponse><responseCode>0</responseCode>", "it ends within an element"),
        ("<reportResponse><responseCode>0</resp", "not XML"),
        ("<reportResponse/>", "it has no responseCode"),
        ("<reportResponse><responseCode/></reportResponse>", "it has no responseCode"),
        (
            "<reportResponse><responseCode>zero</responseCode></reportResponse>",
            "its responseCode is no whole number",
        ),
        (
            "<reportResponse><responseCode>0</responseCode><responseCode>1</responseCode></reportResponse>",
            "responseCode more than once",
        ),
        (
            "<reportResponse><responseCode>0</responseCode><reportId>1</reportId><reportId>2</reportId></reportResponse>",
            "reportId more than once",
        ),
        (
            "<reportDoneResponse><responseCode>0</responseCode><files><fileId/></files></reportDoneResponse>",
            "a fileId in files is empty",
        ),
        ("\0\u{1b}[31m\u{7f}", "it begins: ␀␛[31m\u{fffd}"),
    ] {
        let words = refused(body.as_bytes(), None);
        assert!(words.contains(says), "{words}\n{says}");
    }
    let begin = refused("é".repeat(1000).as_bytes(), None);
    assert_eq!(begin.matches('é').count(), 200);
    // What the XML reader quotes is as long as NCMEC, or something in its place, makes it.
    let name = "x\t\u{9b}".repeat(1000);
    let quoted = refused(format!("<a></{name}>").as_bytes(), None);
    assert!(quoted.chars().count() < 600 && !quoted.contains(char::is_control), "{quoted}");
}

fn answer_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "<reportResponse>",
        "</reportResponse>",
        "<reportDoneResponse>",
        "<responseCode>",
        "</responseCode>",
        "0",
        "5102",
        "-1",
        "<files>",
        "</files>",
        "<files/>",
        "<fileId>",
        "</fileId>",
        "<reportId>",
        "</reportId>",
        "7",
        "&amp;",
        "&#x0;",
        "&#55555555;",
        "&x;",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?xml version='1.0' encoding='",
        "iso-8859-1",
        "'?>",
        "<!DOCTYPE a [",
        "]>",
        "\u{feff}",
        "é",
        " a=\"",
        "\"",
        "<",
        ">",
        "/",
        "\0",
        "\r\n",
    ]);
    let pieces = prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![prop::collection::vec(any::<u8>(), 0..400), pieces]
}

/// As the fuzzer does.
fn probe(bytes: &[u8]) {
    for content_type in [None, Some(RECORDED)] {
        if let Err(error) = parse(bytes, content_type) {
            assert!(error.to_string().chars().count() < 1000, "{error}");
        }
    }
    let _ = validate(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn check_60_nothing_that_comes_makes_it_panic(bytes in answer_like()) {
        probe(&bytes);
    }

    #[test]
    fn check_60_a_cut_answer_is_never_success(cut in any::<prop::sample::Index>(), id: i64) {
        let body = xml(&format!("<responseCode>0</responseCode><responseDescription>é</responseDescription><reportId>{id}</reportId>"));
        let cut = cut.index(body.len());
        prop_assert!(parse(&body.as_bytes()[..cut], None).is_err());
    }
}

#[test]
fn check_60_the_fuzzers_corpus_does_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/ncmec_reply");
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        probe(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 8, "only {replayed} files");
}
