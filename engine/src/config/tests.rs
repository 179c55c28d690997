//! Settings from flags, environment and file, and what is refused.

use super::*;

fn settings(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "cores = 3\nidle_seconds = 7\n").unwrap();
    let flags = Settings { cores: Some(5), ..Settings::default() };
    let config = Config::resolve(flags, Some(file.path())).unwrap();
    assert_eq!((config.cores, config.limits.idle.as_secs(), config.limits.hashes_max), (5, 7, 4096));
}

#[test]
fn a_port_beyond_loopback_needs_a_token_and_the_token_never_shows() {
    let open = settings("listen = '0.0.0.0:7400'");
    let error = Config::resolve(open.clone(), None).unwrap_err().to_string();
    assert!(error.contains("--listen 0.0.0.0:7400") && error.contains("HASHWARD_TOKEN"), "{error}");

    let weak = Settings { token: Some(Secret::new("hunter2")), ..open.clone() };
    assert!(Config::resolve(weak, None).unwrap_err().to_string().contains("32 or more"));

    let token = "0123456789abcdef0123456789abcdef";
    let config = Config::resolve(Settings { token: Some(Secret::new(token)), ..open }, None).unwrap();
    assert!(!config.show().contains(token) && !format!("{config:?}").contains(token));
    assert!(config.show().contains("token = \"***\""));
}

#[test]
fn unknown_settings_and_bad_numbers_are_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "coers = 3\n").unwrap();
    let error = Config::resolve(Settings::default(), Some(file.path())).unwrap_err().to_string();
    assert!(error.contains("coers") && error.contains("line 1"), "{error}");
    let error = Config::resolve(settings("cores = 0"), None).unwrap_err().to_string();
    assert_eq!(error, "cores is 0, allowed is 1 to 1024");
    let error = Config::resolve(settings("idle_seconds = 0"), None).unwrap_err().to_string();
    assert_eq!(error, "idle_seconds is 0, allowed is 1 to 86400");
    let error = Config::resolve(settings("audit_heads = '/nowhere/heads'"), None).unwrap_err().to_string();
    assert!(error.contains("--audit-heads /nowhere/heads") && error.contains("its folder"), "{error}");
}
