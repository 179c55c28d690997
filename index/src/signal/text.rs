//! Texts and URLs as they are compared.
//!
//! A text's normal form is lower case without accents, and without whatever is neither letter nor digit; two are alike
//! if they differ by few enough edits (HMA API, signal types).

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The normal form of a text.
pub fn normal(text: &str) -> Vec<char> {
    let kept = |letter: &char| !is_combining_mark(*letter) && letter.is_alphanumeric();
    text.to_lowercase().nfkd().filter(kept).collect()
}

/// The normal form of a URL, whose MD5 is the `url_md5` signal: lower case, without the scheme.
pub fn normal_url(url: &str) -> String {
    let lower = url.trim().to_lowercase();
    match lower.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
            rest.to_string()
        }
        _ => lower,
    }
}

/// Letters inserted, removed or replaced to make one text the other; `None` if it takes more than `most`.
pub fn edits(one: &[char], other: &[char], most: usize) -> Option<usize> {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if long.len() - short.len() > most {
        return None;
    }
    // A row for each letter of the long text; in it only what lies within `most` of the diagonal can count.
    let far = most + 1;
    let mut row: Vec<usize> = (0..=short.len()).map(|place| place.min(far)).collect();
    for (i, letter) in long.iter().enumerate() {
        let from = (i + 1).saturating_sub(most).max(1);
        let to = (i + 1 + most).min(short.len());
        let mut diagonal = row[from - 1];
        row[from - 1] = if from == 1 { (i + 1).min(far) } else { far };
        let mut least = row[from - 1];
        for place in from..=to {
            let above = if place > i + most { far } else { row[place] };
            let kept = diagonal + usize::from(short[place - 1] != *letter);
            diagonal = row[place];
            row[place] = kept.min(above + 1).min(row[place - 1] + 1).min(far);
            least = least.min(row[place]);
        }
        if least > most {
            return None;
        }
    }
    Some(row[short.len()]).filter(|edits| *edits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_stripped_of_what_spelling_varies() {
        let normal = |text| normal(text).into_iter().collect::<String>();
        assert_eq!(normal("B\u{e4}ll NOW?"), "ballnow");
        assert_eq!(normal("\u{fb01}ne_\u{24b6}\u{b2} -- \u{4f60}\u{597d}!"), "finea2\u{4f60}\u{597d}");
        assert_eq!(normal("?!_"), "");
    }

    #[test]
    fn urls_lose_their_scheme_and_case() {
        assert_eq!(normal_url("HtTPs://wWw.example.COM/A?b"), "www.example.com/a?b");
        assert_eq!(normal_url("www.example.com"), "www.example.com");
        assert_eq!(normal_url("a b://c"), "a b://c");
    }

    /// The textbook's table, whole.
    fn plain(one: &[char], other: &[char]) -> usize {
        let mut table = vec![vec![0; other.len() + 1]; one.len() + 1];
        for i in 0..=one.len() {
            for j in 0..=other.len() {
                table[i][j] = if i == 0 || j == 0 {
                    i + j
                } else {
                    let kept = table[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                    kept.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1)
                };
            }
        }
        table[one.len()][other.len()]
    }

    proptest::proptest! {
        #[test]
        fn edits_are_counted_as_the_textbook_counts_them(one in "[ab]{0,12}", other in "[abc]{0,12}", most in 0usize..14) {
            let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
            let expected = Some(plain(&one, &other)).filter(|edits| *edits <= most);
            proptest::prop_assert_eq!(edits(&one, &other, most), expected);
        }
    }
}
