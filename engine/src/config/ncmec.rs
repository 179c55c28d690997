//! Which CyberTipline is reported to. Only the environment says so: no flag and no file, so that nobody selects production
//! by a line that was copied.

use reporter::cyber_tipline::Environment;

use crate::failpoint::test_text;

/// Which CyberTipline, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NcmecAccess {
    /// Which.
    pub environment: Environment,
    /// Its interface, without a slash at the end.
    pub base_url: String,
}

impl NcmecAccess {
    /// What the process's environment selects: `NCMEC_ENV`, exactly `production` or else the test one; and, only beside the
    /// test one, `HASHWARD_NCMEC_BASE_URL`.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let chosen = Self::choose(variable("NCMEC_ENV").as_deref(), variable("HASHWARD_NCMEC_BASE_URL"));
        match chosen.environment {
            Environment::Production => Self {
                base_url: test_text("HASHWARD_TEST_PRODUCTION_URL").unwrap_or(chosen.base_url),
                ..chosen
            },
            Environment::Test => chosen,
        }
    }

    fn choose(environment: Option<&str>, base_url: Option<String>) -> Self {
        let environment = Environment::of(environment);
        let own = base_url.filter(|url| environment == Environment::Test && !url.is_empty());
        let base_url = own.unwrap_or_else(|| environment.base_url().to_string());
        Self { environment, base_url: base_url.trim_end_matches('/').to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_21_nothing_but_exactly_production_reaches_production_and_no_url_stands_in_for_it() {
        let own = || Some("http://127.0.0.1:9/ispws/".to_string());
        for other in [None, Some(""), Some("Production"), Some("prod"), Some(" production ")] {
            let chosen = NcmecAccess::choose(other, own());
            assert_eq!(chosen.base_url, "http://127.0.0.1:9/ispws", "{other:?}");
            assert_eq!(chosen.environment, Environment::Test);
            let chosen = NcmecAccess::choose(other, None);
            assert_eq!(chosen.base_url, "https://exttest.cybertip.org/ispws", "{other:?}");
        }
        let chosen = NcmecAccess::choose(Some("production"), own());
        assert_eq!(chosen.base_url, "https://report.cybertip.org/ispws");
        assert_eq!(chosen.environment, Environment::Production);
    }
}
