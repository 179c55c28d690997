//! What is generated is valid, and what is not valid is found.

use proptest::prelude::*;

use super::*;
use crate::cyber_tipline::limits;
use crate::cyber_tipline::model::FileDetails;
use crate::cyber_tipline::mutated::mutated;
use crate::cyber_tipline::random::{self, Chance};
use crate::cyber_tipline::xml::{file_details_xml, report_xml};

const NOW_MS: u64 = 1_900_000_000_000;

fn assert_valid(xml: &str) {
    if let Err(problems) = validate_at(xml.as_bytes(), NOW_MS) {
        panic!("{problems:#?}\n{xml}");
    }
}

fn words(xml: &str) -> Vec<(Rule, String)> {
    let problems = validate_at(xml.as_bytes(), NOW_MS).err().unwrap_or_default();
    problems.into_iter().map(|problem| (problem.rule, problem.to_string())).collect()
}

/// What a change breaks: the rule and how its words begin.
fn broken(xml: &str) -> (Rule, String) {
    let found = words(xml);
    assert_eq!(found.len(), 1, "{found:#?}\n{xml}");
    found.into_iter().next().unwrap()
}

const REPORT: &str = "<report><incidentSummary><incidentType>Child Sex Trafficking</incidentType><incidentDateTime>\
    2025-01-01T00:00:00.000Z</incidentDateTime></incidentSummary><internetDetails><webPageIncident/></internetDetails>\
    <reporter><reportingPerson><email>a@b.c</email></reportingPerson></reporter></report>";
const DETAILS: &str = "<fileDetails><reportId>1</reportId><fileId>f</fileId></fileDetails>";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn check_27_every_report_and_every_files_details_are_valid(seed: u64) {
        assert_valid(&report_xml(&random::report(seed)));
        assert_valid(&file_details_xml(&random::file_details(seed)));
    }

    #[test]
    fn what_stands_where_it_may_not_is_found(seed: u64) {
        for xml in [report_xml(&random::report(seed)), file_details_xml(&random::file_details(seed))] {
            // An element that is unknown, at any place behind a tag.
            let places: Vec<usize> = xml.match_indices('>').map(|(at, _)| at + 1).skip(1).collect();
            let at = places[Chance(seed).below(places.len() - 1)];
            let (before, behind) = xml.split_at(at);
            let added = format!("{before}<unknown/>{behind}");
            prop_assert!(validate(added.as_bytes()).is_err());
        }
    }

    #[test]
    fn validating_never_panics(seed: u64, cut in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let changed = mutated(&report_xml(&random::report(seed)), &mut Chance(seed));
        let _ = validate(&changed.as_bytes()[..cut.index(changed.len())]);
        let _ = validate(&bytes);
    }
}

#[test]
fn check_28_an_order_a_number_a_kind_that_is_wrong_is_found() {
    assert_valid(REPORT);
    assert_valid(DETAILS);
    for (from, to, begins) in [
        (
            "<reporter>",
            "<additionalInfo/><reporter>",
            "/report: cvc-complex-type.2.4.a: Invalid content was found starting with element 'additionalInfo'. One of '{internetDetails, lawEnforcement, reporter}' is expected.",
        ),
        (
            "</reporter>",
            "</reporter><victim/>",
            "/report/victim: cvc-complex-type.2.4.b: The content of element 'victim' is not complete. One of '{victimPerson}' is expected.",
        ),
        (
            "</reporter>",
            "</reporter><reporter/>",
            "/report: cvc-complex-type.2.4.a: Invalid content was found starting with element 'reporter'. One of '{personOrUserReported, intendedRecipient, victim, additionalInfo}' is expected.",
        ),
        (
            "</report>",
            "<additionalInfo/><additionalInfo/></report>",
            "/report: cvc-complex-type.2.4.d: Invalid content was found starting with element 'additionalInfo'. No child element is expected at this point.",
        ),
        (
            "<webPageIncident/>",
            "<webPageIncident/><emailIncident/>",
            "/report/internetDetails: cvc-complex-type.2.4.d",
        ),
        ("<webPageIncident/>", "", "/report/internetDetails: cvc-complex-type.2.4.b"),
        (
            "Child Sex Trafficking",
            "Child sex trafficking",
            "/report/incidentSummary/incidentType: cvc-enumeration-valid: Value 'Child sex trafficking' is not facet-valid",
        ),
        (
            "2025-01-01T00:00:00.000Z",
            "",
            "/report/incidentSummary/incidentDateTime: cvc-datatype-valid.1.2.1: '' is not a valid value for 'dateTime'.",
        ),
        ("<reporter>", "<reporter>x", "/report/reporter: cvc-complex-type.2.3"),
        (
            "<email>",
            "<email type=\"Home\" kind=\"x\">",
            "/report/reporter/reportingPerson/email: cvc-complex-type.3.2.2: Attribute 'kind'",
        ),
        (
            "<email>",
            "<email type=\"home\">",
            "/report/reporter/reportingPerson/email/@type: cvc-enumeration-valid",
        ),
        (
            "<report>",
            "<report><batchedReport/>",
            "/report/batchedReport: cvc-complex-type.4: Attribute 'reason' must appear on element 'batchedReport'.",
        ),
        ("<report>", "<report xmlns=\"urn:x\">", "/report: cvc-complex-type.3.2.2"),
        (
            "</report>",
            "<victim><victimPerson/></victim><victim><victimPerson><age>x</age></victimPerson></victim></report>",
            "/report/victim[2]/victimPerson/age: cvc-datatype-valid",
        ),
    ] {
        let (rule, words) = broken(&REPORT.replacen(from, to, 1));
        assert_eq!(rule, Rule::Schema);
        assert!(words.starts_with(begins), "{words}\n{begins}");
    }
    let (rule, words) = broken("<reports/>");
    assert_eq!(
        (rule, words.as_str()),
        (Rule::Schema, "/reports: cvc-elt.1.a: Cannot find the declaration of element 'reports'.")
    );
}

#[test]
fn labels_stand_in_any_order_once_and_only_if_they_hold() {
    let with = |labels: &str| {
        DETAILS.replacen("</fileId>", &format!("</fileId><fileAnnotations>{labels}</fileAnnotations>"), 1)
    };
    for good in ["<viral/><bestiality/>", "<bestiality>true</bestiality><viral/>", ""] {
        assert_valid(&with(good));
    }
    for bad in ["<viral>false</viral>", "<viral/><viral/>", "<spam/>", "<viral> </viral>"] {
        assert_eq!(broken(&with(bad)).0, Rule::Schema, "{bad}");
    }
    let both =
        DETAILS.replacen("</fileId>", "</fileId><potentialMeme>true</potentialMeme><fileAnnotations/>", 1);
    assert_eq!(broken(&both).0, Rule::Schema);
}

#[test]
fn both_kinds_of_answers_are_known() {
    for good in [
        "<reportResponse><responseCode>0</responseCode><responseDescription>Success</responseDescription><reportId>7</reportId></reportResponse>",
        "<reportResponse><responseCode>4100</responseCode><responseDescription/></reportResponse>",
        "<reportDoneResponse><responseCode>0</responseCode><reportId>7</reportId><files/></reportDoneResponse>",
        "<reportDoneResponse><responseCode>0</responseCode><reportId>7</reportId><files><fileId>a</fileId><fileId>b</fileId></files></reportDoneResponse>",
    ] {
        assert_valid(good);
    }
    for bad in [
        "<reportResponse><responseCode>0</responseCode></reportResponse>",
        "<reportResponse><responseCode>0.0</responseCode><responseDescription/></reportResponse>",
        "<reportDoneResponse><responseCode>0</responseCode><reportId>7</reportId></reportDoneResponse>",
    ] {
        assert_eq!(broken(bad).0, Rule::Schema, "{bad}");
    }
}

#[test]
fn check_33_a_text_beyond_its_documented_limit_is_found() {
    // As NCMEC's documents have them (specs/cybertipline.md 1.6 and 1.7).
    assert_eq!((limits::ESP_SERVICE, limits::ESP_IDENTIFIER, limits::SCREEN_NAME), (100, 255, 256));
    assert_eq!((limits::ORIGINAL_FILE_NAME, limits::ESCALATE, limits::LEGAL_URL), (2056, 3000, 2083));
    for (place, name, max) in [
        ("</reporter>", "espService", limits::ESP_SERVICE),
        ("</reporter>", "screenName", limits::SCREEN_NAME),
        ("</reporter>", "espIdentifier", limits::ESP_IDENTIFIER),
        ("</reporter>", "vehicleDescription", limits::VEHICLE),
        ("</reporter>", "groupIdentifier", limits::GROUP_IDENTIFIER),
        ("</incidentType>", "platform", limits::PLATFORM),
        ("</incidentType>", "escalateToHighPriority", limits::ESCALATE),
        ("</incidentDateTime>", "incidentDateTimeDescription", limits::INCIDENT_TIME_DESCRIPTION),
        ("</reportingPerson>", "legalURL", limits::LEGAL_URL),
    ] {
        let with = |text: &str| {
            let mut element = format!("<{name}>{text}</{name}>");
            if place == "</reporter>" {
                element = format!("<personOrUserReported>{element}</personOrUserReported>");
            }
            REPORT.replacen(place, &format!("{place}{element}"), 1)
        };
        assert_valid(&with(&"x".repeat(max)));
        let (rule, words) = broken(&with(&"x".repeat(max + 1)));
        assert_eq!(rule, Rule::Documented);
        assert!(words.ends_with(&format!("/{name}: has {} characters, {max} at most", max + 1)), "{words}");
        // A character beyond U+FFFF counts as two.
        assert_eq!(broken(&with(&"😀".repeat(max / 2 + 1))).0, Rule::Documented);
    }
    assert_eq!(limits::length("\u{fffe}\u{1}a"), 10);
}

#[test]
fn check_34_to_37_and_39_rules_beyond_the_schema_are_found() {
    for (from, to, path) in [
        (
            "</incidentType>",
            "</incidentType><escalateToHighPriority> \n</escalateToHighPriority>",
            "/report/incidentSummary/escalateToHighPriority",
        ),
        ("2025", "2035", "/report/incidentSummary/incidentDateTime"),
        ("<email>a@b.c</email>", "<email> </email>", "/report/reporter/reportingPerson"),
        ("<email>a@b.c</email>", "", "/report/reporter/reportingPerson"),
        ("</email>", "</email><age>151</age>", "/report/reporter/reportingPerson/age"),
    ] {
        let (rule, words) = broken(&REPORT.replacen(from, to, 1));
        assert_eq!(rule, Rule::Documented);
        assert!(words.starts_with(&format!("{path}: ")), "{words}");
    }
    assert!(
        validate(REPORT.replacen("2025", "2035", 1).as_bytes()).is_ok(),
        "without a clock nothing is in the future"
    );
    let supplemental = "<fileRelevance>Supplemental Reported</fileRelevance>";
    for added in [
        "<exifViewedByEsp>true</exifViewedByEsp>".to_string(),
        "<fileViewedByEsp>false</fileViewedByEsp><exifViewedByEsp>1</exifViewedByEsp>".to_string(),
        format!("{supplemental}<industryClassification>A1</industryClassification>"),
        format!("{supplemental}<potentialMeme>false</potentialMeme>"),
        format!("{supplemental}<fileAnnotations><potentialMeme/></fileAnnotations>"),
        "<ipCaptureEvent><ipAddress>192.0.2.1</ipAddress><port>0</port></ipCaptureEvent>".to_string(),
    ] {
        let xml = DETAILS.replacen("</fileId>", &format!("</fileId>{added}"), 1);
        assert_eq!(broken(&xml).0, Rule::Documented, "{added}");
    }
}

#[test]
fn check_41_numbers_beyond_two_to_the_53_are_exact() {
    let id = 9_007_199_254_740_993;
    let mut report = random::report(1);
    report.person_or_user_reported = vec![Default::default()];
    report.person_or_user_reported[0].prior_ct_reports = vec![i64::MAX, id, 1];
    let xml = report_xml(&report);
    assert_valid(&xml);
    assert!(xml.contains(
        "<priorCTReports>9223372036854775807</priorCTReports><priorCTReports>9007199254740993</priorCTReports>\
         <priorCTReports>1</priorCTReports>"
    ));
    let json = serde_json::to_string(&FileDetails { report_id: id, ..Default::default() }).unwrap();
    assert_eq!(serde_json::from_str::<FileDetails>(&json).unwrap().report_id, id);
}

#[test]
fn what_is_not_well_formed_is_told_from_what_is_not_valid() {
    for bad in [
        "",
        "x",
        "<report>",
        "<report></reports>",
        "<report/><report/>",
        "<report>&nbsp;</report>",
        "<!DOCTYPE report><report/>",
        "<report>]]></report>",
        "<report a='1' a='2'/>",
        "<report a=1/>",
        "<report a='1'b='2'/>",
        "<report a='<'/>",
        "<report>&#1;</report>",
        "<report>&#xFFFE;</report>",
        "<report>\u{1}</report>",
        " <?xml version=\"1.0\"?><report/>",
        "<?xml version=\"2.0\"?><report/>",
        "<1/>",
        "<a:b:c/>",
        "<report><!-- -- --></report>",
        "<report/>x",
        "<report/>&lt;",
        "<![CDATA[x]]><report/>",
        "<?xml version=\"1.0\" encoding=\"EBCDIC\"?><report/>",
    ] {
        assert_eq!(broken(bad).0, Rule::WellFormed, "{bad}");
    }
    let deep = format!("{}{}", "<report>".repeat(100), "</report>".repeat(100));
    assert_eq!(broken(&deep).0, Rule::WellFormed);
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><reportResponse><responseCode>1</responseCode><responseDescription>\xe9</responseDescription></reportResponse>";
    assert!(validate(latin).is_ok());
    assert!(validate(&latin[44..]).is_err());
    assert_valid(&format!("\u{feff}{REPORT}<!-- end -->\n<?end?>"));
}
