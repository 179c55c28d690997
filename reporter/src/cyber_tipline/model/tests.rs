//! The model is in the schema's order, leaves nothing empty behind, and is the same after a way through XML or JSON.

use super::*;

fn sample() -> Report {
    Report {
        batched_report: Some(BatchedReport { reason: BatchedReason::ViralPotentialMeme }),
        incident_summary: IncidentSummary {
            incident_type: IncidentType::ChildPornography,
            platform: Some(String::new()),
            escalate_to_high_priority: None,
            report_annotations: Some(ReportAnnotations { spam: true, ..Default::default() }),
            incident_date_time: "2026-01-02T03:04:05Z".into(),
            incident_date_time_description: None,
        },
        internet_details: vec![
            InternetDetails { incident: Incident::WebPage(WebPageIncident::default()) },
            InternetDetails {
                incident: Incident::CellPhone(CellPhoneIncident {
                    latitude: Some(-1.5),
                    longitude: Some(f64::NAN),
                    ..Default::default()
                }),
            },
        ],
        law_enforcement: None,
        reporter: Reporter {
            reporting_person: Person {
                email: vec![Email {
                    kind: Some(EmailKind::Work),
                    text: "a@b.example".into(),
                    ..Default::default()
                }],
                ..Default::default()
            },
            ..Default::default()
        },
        person_or_user_reported: vec![PersonOrUserReported {
            person_or_user_reported_person: Some(Person::default()),
            display_name: vec![String::new(), "x".into()],
            prior_ct_reports: vec![9_007_199_254_740_993, 2],
            account_temporarily_disabled: Some(AccountTemporarilyDisabled::default()),
            ..Default::default()
        }],
        intended_recipient: vec![],
        victim: vec![],
        additional_info: Some("a < b & c ]]>".into()),
    }
}

#[test]
fn check_30_and_31_what_is_absent_leaves_no_empty_element() {
    let xml = quick_xml::se::to_string(&sample()).unwrap();
    assert_eq!(
        xml,
        "<report><batchedReport reason=\"VIRAL_POTENTIAL_MEME\"/><incidentSummary><incidentType>Child Pornography \
         (possession, manufacture, and distribution)</incidentType><reportAnnotations><spam>true</spam>\
         </reportAnnotations><incidentDateTime>2026-01-02T03:04:05Z</incidentDateTime></incidentSummary>\
         <internetDetails><webPageIncident/></internetDetails><internetDetails><cellPhoneIncident>\
         <latitude>-1.5</latitude></cellPhoneIncident></internetDetails><reporter><reportingPerson>\
         <email type=\"Work\">a@b.example</email></reportingPerson></reporter><personOrUserReported>\
         <displayName>x</displayName><priorCTReports>9007199254740993</priorCTReports>\
         <priorCTReports>2</priorCTReports><accountTemporarilyDisabled>false</accountTemporarilyDisabled>\
         </personOrUserReported><additionalInfo>a &lt; b &amp; c ]]&gt;</additionalInfo></report>"
    );
    let event = IpCaptureEvent { ip_address: "192.0.2.1".into(), ..Default::default() };
    let xml = quick_xml::se::to_string_with_root("ipCaptureEvent", &event).unwrap();
    assert_eq!(xml, "<ipCaptureEvent><ipAddress>192.0.2.1</ipAddress></ipCaptureEvent>");
}

#[test]
fn file_details_are_the_same_after_json_and_after_xml() {
    let details = FileDetails {
        report_id: i64::MAX,
        file_id: "b6636ef679532f0dc1207b96ee15e943".into(),
        file_relevance: Some(FileRelevance::Supplemental),
        labels: Some(Labels::FileAnnotations(FileAnnotations { viral: true, ..Default::default() })),
        original_file_hash: vec![OriginalFileHash { hash_type: "PDQ".into(), text: "aa".into() }],
        details: vec![Details {
            kind: Some(DetailsKind::Hash),
            name_value_pair: vec![NameValuePair { name: "n".into(), value: "v".into() }],
        }],
        additional_info: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    let json = serde_json::to_string(&details).unwrap();
    assert_eq!(serde_json::from_str::<FileDetails>(&json).unwrap(), details);
    let xml = quick_xml::se::to_string(&details).unwrap();
    assert_eq!(
        xml,
        "<fileDetails><reportId>9223372036854775807</reportId><fileId>b6636ef679532f0dc1207b96ee15e943</fileId>\
         <fileRelevance>Supplemental Reported</fileRelevance><fileAnnotations><viral>true</viral></fileAnnotations>\
         <originalFileHash hashType=\"PDQ\">aa</originalFileHash><details type=\"HASH\"><nameValuePair><name>n</name>\
         <value>v</value></nameValuePair></details><additionalInfo>a</additionalInfo><additionalInfo>b</additionalInfo>\
         </fileDetails>"
    );
    assert_eq!(quick_xml::de::from_str::<FileDetails>(&xml).unwrap(), details);
}
