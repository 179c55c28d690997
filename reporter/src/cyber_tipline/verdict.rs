//! What an answer of NCMEC, or none, means for a report that is being filed.
//!
//! The status of HTTP is not the verdict (specs/cybertipline.md 1.1): a body that is NCMEC's is asked first. What counts is
//! whom it is about: the host and the organisation are everybody's trouble and cost this report nothing; only an answer
//! about this very report does.

use super::reply::{Reply, ReplyError};

/// What came back of a call.
#[derive(Debug)]
pub enum Heard {
    /// No whole answer: nobody knows whether it was carried out.
    Nothing {
        /// What happened instead.
        why: String,
    },
    /// An answer.
    Answer {
        /// The status of HTTP.
        status: u16,
        /// How long it asks to be left alone.
        retry_after_ms: Option<u64>,
        /// Its body.
        reply: Result<Reply, ReplyError>,
    },
}

/// What it means.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It was carried out.
    Done(Reply),
    /// The host does not work, or wants to be left alone. It may have been carried out.
    Host {
        /// Why.
        words: String,
        /// How long it asks to be left alone.
        retry_after_ms: Option<u64>,
    },
    /// The organisation may not: its credentials are wrong, or not enough.
    Organisation {
        /// Why.
        words: String,
    },
    /// It was not carried out this time, and may be the next.
    Again {
        /// NCMEC's code.
        code: i64,
        /// Why.
        words: String,
    },
    /// It is refused, and the same will be refused again.
    Refused {
        /// NCMEC's code.
        code: i64,
        /// Why.
        words: String,
    },
    /// NCMEC has no such report (any more).
    NoReport,
    /// The report has no such file.
    NoFile,
    /// The report was retracted.
    Retracted,
    /// The report is finished already.
    Finished,
}

/// Judges an answer (specs/cybertipline.md 1.4, 1.5).
pub fn judge(heard: Heard) -> Verdict {
    let (status, retry_after_ms, reply) = match heard {
        Heard::Nothing { why } => return Verdict::Host { words: why, retry_after_ms: None },
        Heard::Answer { status, retry_after_ms, reply } => (status, retry_after_ms, reply),
    };
    let host = |words: String| Verdict::Host { words, retry_after_ms };
    let reply = match reply {
        Ok(reply) => reply,
        Err(_) if status == 401 || status == 403 => {
            return Verdict::Organisation { words: format!("NCMEC answered {status}") };
        }
        Err(error) => return host(format!("NCMEC's host answered {status}, and not as NCMEC does: {error}")),
    };
    let words = match &reply.description {
        Some(description) => format!("NCMEC answered {} ({description})", reply.code),
        None => format!("NCMEC answered {}", reply.code),
    };
    let code = reply.code;
    match code {
        _ if status == 401 => Verdict::Organisation { words },
        2000 | 3000 | 3100 | 3300 => Verdict::Organisation { words },
        _ if status == 429 => host(words),
        5001 => Verdict::NoReport,
        5002 => Verdict::NoFile,
        5101 => Verdict::Retracted,
        5102 => Verdict::Finished,
        // 1001: what 2016's interface said of a report that breaks the schema.
        1001 | 1210 | 4000 | 4100 | 4110 | 4200 => Verdict::Refused { code, words },
        _ if status >= 500 => host(words),
        0 if status < 400 => Verdict::Done(reply),
        0 => host(format!("{words} with status {status}")),
        _ => Verdict::Again { code, words },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, code: i64) -> Verdict {
        let reply =
            Reply { code, description: None, report_id: Some(7), file_id: None, hash: None, files: None };
        judge(Heard::Answer { status, retry_after_ms: Some(5), reply: Ok(reply) })
    }

    #[test]
    fn check_08_only_code_zero_with_a_good_status_is_success() {
        assert!(matches!(verdict(200, 0), Verdict::Done(_)));
        for code in [1000, 1100, 1110, 1111, 1300, 9999, -1] {
            assert!(matches!(verdict(200, code), Verdict::Again { .. }), "{code}");
        }
        assert!(matches!(verdict(400, 0), Verdict::Host { .. }));
        assert!(matches!(verdict(500, 0), Verdict::Host { .. }));
    }

    #[test]
    fn check_13_what_the_host_does_not_do_costs_the_report_nothing() {
        for status in [500, 502, 503, 504] {
            for code in [1000, 1100] {
                assert!(matches!(verdict(status, code), Verdict::Host { .. }), "{status} {code}");
            }
        }
        assert!(matches!(verdict(429, 1000), Verdict::Host { retry_after_ms: Some(5), .. }));
        let silence = judge(Heard::Nothing { why: "the connection broke".to_string() });
        assert!(matches!(silence, Verdict::Host { .. }));
    }

    #[test]
    fn check_14_what_is_wrong_with_the_report_is_refused_whatever_the_status() {
        for code in [4000, 4100, 4110, 4200, 1210, 1001] {
            for status in [200, 400, 500] {
                assert!(matches!(verdict(status, code), Verdict::Refused { .. }), "{status} {code}");
            }
        }
    }

    #[test]
    fn check_15_what_is_wrong_with_the_organisation_is_not_the_reports_fault() {
        for code in [2000, 3000, 3100, 3300] {
            for status in [200, 401, 403] {
                assert!(matches!(verdict(status, code), Verdict::Organisation { .. }), "{status} {code}");
            }
        }
        assert!(matches!(verdict(401, 1000), Verdict::Organisation { .. }), "2016's way to say so");
    }

    #[test]
    fn check_02_10_states_of_the_report_are_told_apart() {
        assert_eq!(verdict(200, 5001), Verdict::NoReport);
        assert_eq!(verdict(404, 5001), Verdict::NoReport);
        assert_eq!(verdict(200, 5002), Verdict::NoFile);
        assert_eq!(verdict(200, 5101), Verdict::Retracted);
        assert_eq!(verdict(409, 5102), Verdict::Finished);
    }
}
