//! Passwords: hashed with Argon2id, compared in the time a hash takes whether or not there is such a person.

use std::io;
use std::sync::OnceLock;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use reporter::FieldError;

use crate::secrets::random;

/// OWASP's first choice for Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const CHARS_MIN: usize = 12;
const BYTES_MAX: usize = 1024;

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or(Params::DEFAULT);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Whether a password may be one.
pub fn check(password: &str, name: &str) -> Result<(), FieldError> {
    let wrong = |problem: String| Err(FieldError { pointer: "/password".to_string(), problem });
    if password.chars().count() < CHARS_MIN || password.len() > BYTES_MAX {
        return wrong(format!("has not {CHARS_MIN} characters, or more than {BYTES_MAX} bytes"));
    }
    let first = password.chars().next();
    if password.chars().all(|c| Some(c) == first) || password.to_lowercase().contains(name) {
        return wrong("is one character over and over, or holds the login name: take another".to_string());
    }
    Ok(())
}

/// The hash of a password, in PHC form. Takes some 20 ms and 19 MiB.
pub fn hash(password: &str) -> io::Result<String> {
    let mut salt = [0; 16];
    random(&mut salt)?;
    let salt = SaltString::encode_b64(&salt).map_err(io::Error::other)?;
    let hash = argon2().hash_password(password.as_bytes(), &salt).map_err(io::Error::other)?;
    Ok(hash.to_string())
}

/// Whether this is the password of a hash; without a hash it takes as long, and is not.
pub fn is_right(password: &str, hash_of: Option<&str>) -> bool {
    let Ok(parsed) = PasswordHash::new(hash_of.unwrap_or_else(|| nobodys())) else { return false };
    argon2().verify_password(password.as_bytes(), &parsed).is_ok() && hash_of.is_some()
}

/// What a password is compared with where nobody has the name. Made at the start, so that the first login of such a name
/// does not take the time of two hashes.
pub fn nobodys() -> &'static str {
    static NOBODYS: OnceLock<String> = OnceLock::new();
    NOBODYS.get_or_init(|| hash("nobody has this one").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_right_or_not_and_never_kept() {
        let kept = hash("correct horse battery").unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && !kept.contains("horse"));
        assert_ne!(kept, hash("correct horse battery").unwrap(), "salted");
        assert!(is_right("correct horse battery", Some(&kept)));
        assert!(!is_right("correct horse batterY", Some(&kept)) && !is_right("nobody has this one", None));
        assert!(!is_right("", Some("")) && !is_right("", Some("$argon2id$v=19$soup")));
    }

    #[test]
    fn weak_passwords_are_refused() {
        for weak in ["short", "aaaaaaaaaaaaaaaa", "Anna-password-1", &"long".repeat(300)] {
            assert!(check(weak, "anna").is_err(), "{weak}");
        }
        assert!(check("correct horse battery", "anna").is_ok());
    }
}
