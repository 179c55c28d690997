//! What NCMEC documents beyond its schema, but for lengths and ranges, which `simple` knows (specs/cybertipline.md 1.6 and
//! 1.7).

use super::simple::time_ms;
use super::{Problem, Rule};
use crate::cyber_tipline::tree::{Element, is_space};

/// Adds what breaks a rule.
pub(super) fn check(root: &Element, now_ms: Option<u64>, problems: &mut Vec<Problem>) {
    match root.name.as_str() {
        "report" => report(root, now_ms, problems),
        "fileDetails" => file_details(root, problems),
        _ => {}
    }
}

fn report(report: &Element, now_ms: Option<u64>, problems: &mut Vec<Problem>) {
    let mut wrong = |path: &str, words: &str| {
        let path = format!("/report/{path}");
        problems.push(Problem { path, rule: Rule::Documented, words: words.to_string() });
    };
    if let Some(person) = report.at(&["reporter", "reportingPerson"])
        && !person.all("email").any(|email| !email.text.trim_matches(is_space).is_empty())
    {
        wrong("reporter/reportingPerson", "needs an email");
    }
    if let Some(reason) = report.at(&["incidentSummary", "escalateToHighPriority"])
        && reason.text.trim().is_empty()
    {
        wrong("incidentSummary/escalateToHighPriority", "is blank: it says why, or is left out");
    }
    let at_ms = report.at(&["incidentSummary", "incidentDateTime"]).and_then(|at| time_ms(&at.text));
    if let (Some(at_ms), Some(now_ms)) = (at_ms, now_ms)
        && u64::try_from(at_ms).is_ok_and(|at_ms| at_ms > now_ms)
    {
        wrong("incidentSummary/incidentDateTime", "is not in the past");
    }
}

fn file_details(details: &Element, problems: &mut Vec<Problem>) {
    let mut wrong = |path: &str, words: &str| {
        let path = format!("/fileDetails/{path}");
        problems.push(Problem { path, rule: Rule::Documented, words: words.to_string() });
    };
    let is_true = |name: &str| {
        details.at(&[name]).is_some_and(|flag| matches!(flag.text.trim_matches(is_space), "true" | "1"))
    };
    if is_true("exifViewedByEsp") && !is_true("fileViewedByEsp") {
        wrong("exifViewedByEsp", "is true where fileViewedByEsp is not");
    }
    if details.at(&["fileRelevance"]).is_some_and(|relevance| relevance.text == "Supplemental Reported") {
        for path in
            [&["industryClassification"][..], &["potentialMeme"], &["fileAnnotations", "potentialMeme"]]
        {
            if details.at(path).is_some() {
                wrong(&path.join("/"), "belongs to files that are Reported, not to supplemental ones");
            }
        }
    }
}
