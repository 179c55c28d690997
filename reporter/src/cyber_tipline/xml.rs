//! Writing reports and file details as XML: escaped, illegal characters replaced visibly.
