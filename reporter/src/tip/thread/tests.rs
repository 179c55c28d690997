//! That no cell is run by a spreadsheet, and that each can be read back.

use super::*;

/// Takes a cell apart as the file's words say: quotes, then one `'`.
fn read_back(cell: &str) -> String {
    let inner = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap().replace("\"\"", "\"");
    inner.strip_prefix('\'').map_or(inner.clone(), str::to_string)
}

#[test]
fn check_49_cells_that_begin_like_formulas_are_safe_and_read_back_as_they_were() {
    for text in [
        "=cmd|' /C calc'!A0",
        "+1",
        "-2",
        "@SUM(A1)",
        "  =1",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "'quoted",
        "''=1",
    ] {
        let cell = cell(text);
        assert!(cell.starts_with("\"'"), "{cell}");
        assert_eq!(read_back(&cell), text);
    }
    for text in ["", "a=b", "hello, \"you\"", "two\nlines", " blank", "1-2", "\u{202e}right to left", "🙂"]
    {
        let cell = cell(text);
        assert!(!cell.starts_with("\"'"), "{cell}");
        assert_eq!(read_back(&cell), text);
    }
}
