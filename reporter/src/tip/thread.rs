//! A conversation as a CSV file, with the columns of Coop (specs/coop.md 2.7).
